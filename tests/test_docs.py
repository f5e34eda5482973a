"""What the documentation says is so: links lead somewhere, names exist."""

import re
from pathlib import Path

import pytest

from mailing.cli import cli

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_into_the_repository_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_and_target_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = set(re.findall(r"(?:`|^    )mailing ([a-z-]+)", text, flags=re.MULTILINE))
    made = set(re.findall(r"(?:`|^    )make ([a-z-]+)", text, flags=re.MULTILINE))
    assert named - cli.commands.keys() == set()
    assert made - targets == set()


def test_the_architecture_names_every_module_of_the_top_level() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    package = ROOT / "src" / "mailing"
    modules = {path.stem for path in package.glob("*.py")} | {
        path.parent.name for path in package.glob("*/__init__.py")
    }
    named = set(re.findall(r"`(\w+)/?`", text))
    assert modules - {"__init__", "__main__"} - named == set()


@pytest.mark.parametrize(("page", "least"), [("faults.md", 80), ("security.md", 90)])
def test_every_test_that_a_catalogue_names_exists(page: str, least: int) -> None:
    named = set(re.findall(r"`([a-z0-9_]{15,})`", (ROOT / "docs" / page).read_text(encoding="utf-8")))
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > least
    assert named - set(re.findall(r"def test_(\w+)", sources)) == set()


def test_every_chapter_of_the_asvs_has_a_row_with_a_test_or_a_word_why_not() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    (points,) = re.findall(r"^## ASVS 5\.0.*?\n(.*?)^## ", page, flags=re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| (V[^|]+)\|[^|]+\|([^|]*)\|$", points, flags=re.MULTILINE)
    assert [point for point, tests in rows if not re.search(r"`\w{15,}`", tests)] == []
    assert {int(chapter) for chapter in re.findall(r"\bV(\d+)", points)} == set(range(1, 18))


def test_no_decision_is_made_by_a_processes_own_clock() -> None:
    """Its clock may be an hour off: what is due is for the database to say. A Retry-After may be a date, and nothing
    else can tell how far away it is; an identity provider's token ends by a clock; the demo plays an API client; the
    doctor compares clocks; the sandbox is a gateway.
    """
    package = ROOT / "src" / "mailing"
    clocks = re.compile(r"datetime\.(now|utcnow|today)\(|\btime\.time(_ns)?\(|date\.today\(")
    readers = {
        str(path.relative_to(package)) for path in package.rglob("*.py") if clocks.search(path.read_text("utf-8"))
    }
    assert {name for name in readers if "sandbox" not in name} == {
        "access/oidc.py",
        "gateway/client.py",
        "demo.py",
        "doctor.py",
    }

"""What the documentation says is so: links lead somewhere, names exist, both READMEs are one."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mailing.cli.main import cli
from support import ROOT
from support.database import Database
from support.documents import addresses, anchors, blocks, headings, links, pages, prose

each_page = pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))


def text_of(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


EVENTS = re.findall(r"^\| `mailing ([^`]+)`", text_of("docs/logging.md"), flags=re.MULTILINE)
TARGETS = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), flags=re.MULTILINE))
GROWS = text_of("docs/data.md").partition("## What grows")[2].partition("\n## ")[0]


@each_page
def test_every_link_into_the_repository_leads_to_a_file_and_a_heading_in_it(page: Path) -> None:
    wrong = []
    for path, anchor in links(page):
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(f"{path}#{anchor}")
    assert wrong == []


@each_page
def test_every_command_and_target_named_exists(page: Path) -> None:
    code = "\n".join(code_of(page))
    named = [words for words in commands_in(code) if " ".join(words) not in EVENTS]
    assert [words for words in named if not exists(words)] == []
    assert set(re.findall(r"\bmake ([a-z-]+)", code)) - TARGETS == set()


def test_commands_are_found_in_documents_and_one_that_is_not_there_is_noticed() -> None:
    code = "`mailing up` x=$(mailing key create crm)\nkubectl -n mailing wait\n`mailing key create\\|burn`\n"
    code += "$ mailing worker --cheek"
    assert [(words, exists(words)) for words in commands_in(code)] == [
        (["up"], True),
        (["key", "create", "crm"], True),
        (["key", "create"], True),
        (["key", "burn"], False),
        (["worker", "--cheek"], False),
    ]


def test_every_document_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / path).resolve() for path, _ in links(index)}
    assert [page.name for page in pages() if page.is_relative_to(ROOT / "docs") and page not in {index, *linked}] == []


def test_the_russian_readme_has_the_commands_the_links_and_the_sections_of_the_english_one() -> None:
    english, russian = ROOT / "README.md", ROOT / "README.ru.md"
    assert len(english.read_text(encoding="utf-8").splitlines()) <= 120
    assert commands_of(english) == commands_of(russian)
    assert [level for level, _ in headings(english)] == [level for level, _ in headings(russian)]
    assert addresses(english) == addresses(russian)
    there, back = [*links(english)], [*links(russian)]
    assert [*there[1:]] == [*back[1:]]
    assert (there[0], back[0]) == (("README.ru.md", ""), ("README.md", ""))


def code_of(page: Path) -> list[str]:
    """Fenced, indented and inline."""
    text = page.read_text(encoding="utf-8")
    indented = re.findall(r"^ {4,}(.*)$", text, flags=re.MULTILINE)
    return [*(code.text for code in blocks(page)), *indented, *re.findall(r"`([^`\n]+)`", text)]


def commands_in(code: str) -> Iterator[list[str]]:
    """Find the words after `mailing` where it is a program that runs, not a noun or an option's value."""
    for said in re.findall(
        r"(?:^|[$`(/] ?|run |-- |exec (?:-\w )?\w+ |=\S+ )mailing ([a-z-][^\n`');&<>#]*)", code, flags=re.MULTILINE
    ):
        words = said.split("   ")[0].split()
        *group, last = words[:2]
        for name in re.split(r"\\?\|", last):
            if name:
                yield [*group, name, *words[2:]]


def exists(words: list[str]) -> bool:
    command: click.Command = cli
    while words and isinstance(command, click.Group) and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words[0])
        if found is None:
            return False
        command, words = found, words[1:]
    options = (name for option in command.params for name in (*option.opts, *option.secondary_opts))
    known = {"--help", "--version", *options}
    return {word.strip("[]|").split("=")[0] for word in words if word.startswith(("--", "[--"))} <= known


def commands_of(page: Path) -> list[str]:
    """Return the lines of all code blocks except `text`, without comments: both are for people."""
    lines = "".join(code.text for code in blocks(page) if code.language != "text").splitlines()
    indented = re.findall(r"^ {4}(.*)$", prose(page), flags=re.MULTILINE)
    return [re.sub(r"\s+# .*$", "", line) for line in [*lines, *indented]]


def test_the_architecture_names_every_module_of_the_top_level() -> None:
    package = ROOT / "src" / "mailing"
    modules = {each.stem for each in package.glob("*.py")} | {
        each.parent.name for each in package.glob("*/__init__.py")
    }
    named = set(re.findall(r"`(\w+)/?`", text_of("ARCHITECTURE.md")))
    assert modules - {"__init__", "__main__"} - named == set()


async def test_for_every_table_it_is_said_what_makes_it_smaller(db: Database) -> None:
    cells = re.findall(r"^\| (`[^|]+) \|", GROWS, flags=re.MULTILINE)
    told = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    tables = await db.run(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        " AND NOT relispartition"
    )
    assert sorted(told) == sorted(row.relname for row in tables)


async def test_every_index_that_it_names_exists(db: Database) -> None:
    named = set(re.findall(r"`(\w+_(?:age|minute|heartbeat))`", GROWS))
    indexes = await db.run("SELECT indexname FROM pg_indexes WHERE schemaname = 'public'")
    assert len(named) == 5
    assert named - {row.indexname for row in indexes} == set()


@pytest.mark.parametrize(("page", "least"), [("faults.md", 80), ("security.md", 90)])
def test_every_test_that_a_catalogue_names_exists(page: str, least: int) -> None:
    named = set(re.findall(r"`([a-z0-9_]{15,})`", text_of(f"docs/{page}")))
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > least
    assert named - set(re.findall(r"def test_(\w+)", sources)) == set()


def test_every_chapter_of_the_asvs_has_a_row_with_a_test_or_a_word_why_not() -> None:
    (points,) = re.findall(r"^## ASVS 5\.0.*?\n(.*?)^## ", text_of("docs/security.md"), flags=re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| (V[^|]+)\|[^|]+\|([^|]*)\|$", points, flags=re.MULTILINE)
    assert [point for point, tests in rows if not re.search(r"`\w{15,}`", tests)] == []
    assert {int(chapter) for chapter in re.findall(r"\bV(\d+)", points)} == set(range(1, 18))


def test_no_decision_is_made_by_a_processes_own_clock() -> None:
    """Its clock may be an hour off: what is due is for the database to say. A Retry-After may be a date, and nothing
    else can tell how far away it is; an identity provider's token ends by a clock; the demo plays an API client; the
    doctor compares clocks; the sandbox is a gateway; Procrastinate's log says since when a job has run; a log line has
    its time.
    """
    package = ROOT / "src" / "mailing"
    clocks = re.compile(r"datetime\.(now|utcnow|today)\(|\btime\.time(_ns)?\(|date\.today\(")
    readers = {
        str(path.relative_to(package)) for path in package.rglob("*.py") if clocks.search(path.read_text("utf-8"))
    }
    assert {name for name in readers if "sandbox" not in name} == {
        "access/oidc.py",
        "gateway/client.py",
        "cli/database_checks.py",
        "cli/demo.py",
        "cli/doctor.py",
        "job_queue/lanes.py",
        "observability/log.py",
    }

"""`mailing privacy …` as its user meets it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mailing.cli.main import cli
from mailing.errors import Invalid
from support.database import Database

PHONE = "79161234567"


@pytest.fixture
async def phone(db: Database) -> str:
    await db.add_client(phone=PHONE, tag="vip")
    return PHONE


def privacy(*arguments: str, database_url: str, given: str | bytes | None = None) -> Result:
    settings = {"MAILING_DATABASE_URL": database_url, "MAILING_TEST_DATABASE_URL": None}
    return CliRunner().invoke(cli, ["privacy", *arguments], env=settings, input=given)


def test_a_person_is_exported_erased_and_allowed_again(database_url: str, phone: str) -> None:
    exported = privacy("export", "-", database_url=database_url, given=f"{phone}\n")
    assert json.loads(exported.stdout)["client"]["tag"] == "vip"
    erased = privacy("erase", phone, database_url=database_url)
    assert erased.stdout == "The client is erased. The phone was removed from 0 messages and is refused from now on.\n"
    again = privacy("erase", phone, database_url=database_url)
    assert again.stdout.startswith("There was no client with this phone.")
    assert json.loads(privacy("export", phone, database_url=database_url).stdout)["client"] is None
    assert privacy("allow", phone, database_url=database_url).exit_code == 0


@pytest.mark.parametrize("command", ["export", "erase", "allow"])
def test_what_is_no_phone_is_wrong_use_and_not_repeated(database_url: str, command: str) -> None:
    for given in ("8 916 123-45-6", "-"):
        refused = privacy(command, given, database_url=database_url, given="8 916 123-45-6\n")
        assert refused.exit_code == 2
        assert "a Russian phone of 11 digits" in refused.stderr
        assert "123-45-6;" not in refused.output.replace("\n", " ")
        assert "916 123" not in refused.output


@pytest.mark.parametrize("command", ["export", "erase", "allow"])
def test_of_several_phones_none_is_taken(database_url: str, phone: str, command: str) -> None:
    refused = privacy(command, "-", database_url=database_url, given=f"{phone}\n79161234568\n")
    assert refused.exit_code == 2
    assert "one phone at a time" in refused.stderr
    assert privacy(command, "-", database_url=database_url, given=phone.encode("utf-16")).exit_code == 2
    assert json.loads(privacy("export", "-", database_url=database_url, given=f"{phone}\n\n").stdout)["client"]


def test_the_log_goes_out_and_comes_in(database_url: str, phone: str, tmp_path: Path) -> None:
    privacy("erase", phone, database_url=database_url)
    log = tmp_path / "erasures.jsonl"
    log.write_text(privacy("log", database_url=database_url).stdout)
    assert phone not in log.read_text()
    assert privacy("reapply", str(log), database_url=database_url).stdout == "0 erased again, 1 in the log.\n"


@pytest.mark.parametrize(
    "line",
    [
        *(b"no JSON", b"{}", b"\xff\xfe{\x00", bytes(1_000_000)),
        b'{"installation":"","hash":"xyz","erased_at":"2026-01-01T00:00:00Z","revoked_at":null}',
    ],
)
def test_a_file_that_is_no_log_is_refused_by_its_line(database_url: str, tmp_path: Path, line: bytes) -> None:
    log = tmp_path / "erasures.jsonl"
    log.write_bytes(b"\n" + line + b"\n")
    refused = privacy("reapply", str(log), database_url=database_url)
    assert isinstance(refused.exception, Invalid)
    assert "line 2: was not written by mailing privacy log" in str(refused.exception)

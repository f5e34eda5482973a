"""No command but `migrate` changes the schema of the database it was given, whatever it is asked to do there."""

import io
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import psycopg
import pytest

from mailing.cli import main
from mailing.process.ports import free_port

pytestmark = pytest.mark.slow

Words = tuple[str, ...]

WITHOUT_DATABASE = {("demo",), ("sandbox",)}  # `demo` has one of its own that it throws away
APART = {("migrate",), ("doctor",)}
GIVEN = {"file": "given", "phone": "79161234567", "key_id": "1"}


def commands(group: click.Group = main.cli, before: Words = ()) -> Iterator[Words]:
    """Each command there is: a new one is tried by itself."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*before, name))
        else:
            yield (*before, name)


def arguments_of(words: Words) -> list[str]:
    command: click.Command = main.cli
    for word in words:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found
    return [GIVEN.get(str(each.name), "somebody") for each in command.params if isinstance(each, click.Argument)]


Call = Callable[[Words], tuple[object, str, str]]


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: str, capsys: pytest.CaptureFixture[str]
) -> Call:
    """Exit code, standard output and standard error of a command on the test's database."""
    (tmp_path / "given").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAILING_DATABASE_URL", database_url)
    monkeypatch.setenv("MAILING_GATEWAY_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("MAILING_GATEWAY_PROVIDER", "kannel")
    monkeypatch.setenv("MAILING_GATEWAY_USER", "mailing")
    monkeypatch.setenv("MAILING_GATEWAY_TOKEN", "secret")
    monkeypatch.setenv("MAILING_PUBLIC_URL", "https://mailing.example.org")
    monkeypatch.setenv("MAILING_PORT", str(free_port()))
    monkeypatch.delenv("MAILING_TEST_DATABASE_URL", raising=False)

    def called(words: Words) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["mailing", *words, *arguments_of(words)])
        monkeypatch.setattr(sys, "stdin", io.StringIO("correct horse battery\n"))
        with pytest.raises(SystemExit) as ended:
            main.main()
        return ended.value.code, *capsys.readouterr()

    return called


def set_version(url: str, version: str | None) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM alembic_version")
        if version:
            connection.execute("INSERT INTO alembic_version VALUES (%s)", [version])


def tables_of(url: str) -> tuple[object, ...]:
    with psycopg.connect(url) as connection:
        catalogue = connection.execute("SELECT count(*), max(c.oid) FROM pg_class c").fetchone()
        return catalogue, connection.execute("SELECT version_num FROM alembic_version").fetchall()


FAULTS = {
    "0001": r"the database's schema 0001 is older than \d{4}, which this program needs; run mailing migrate",
    "9999": r"the database's schema 9999 is newer than \d{4}, this program's; use the version of Mailing that .*",
    None: r"the database is empty, this program needs schema \d{4}; run mailing migrate",
}


@pytest.mark.parametrize("words", sorted(set(commands()) - WITHOUT_DATABASE - APART), ids=" ".join)
def test_a_command_requires_the_schema_and_names_both_revisions_and_the_remedy(
    words: Words, database_url: str, call: Call
) -> None:
    for found, fault in FAULTS.items():
        set_version(database_url, found)
        before = tables_of(database_url)
        code, out, err = call(words)
        assert (code, out) == (1, "")
        assert re.fullmatch(rf"mailing: {fault}\n", err), err
        assert tables_of(database_url) == before


@pytest.mark.parametrize("found", FAULTS)
def test_the_doctor_tells_it_and_changes_nothing(found: str | None, database_url: str, call: Call) -> None:
    set_version(database_url, found)
    before = tables_of(database_url)
    code, out, _ = call(("doctor",))
    assert code == 1
    detail, _, remedy = FAULTS[found].partition("; ")
    assert re.search(rf"fail   schema         {detail}\n +→ {remedy}", out), out
    assert tables_of(database_url) == before


def test_a_schema_of_a_newer_version_is_not_migrated_either(database_url: str, call: Call) -> None:
    set_version(database_url, "9999")
    code, out, err = call(("migrate",))
    assert (code, out) == (1, "")
    assert re.fullmatch(rf"mailing: {FAULTS['9999']}\n", err)


def test_without_any_database_none_is_made(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MAILING_DATABASE_URL")
    code, out, err = call(("key", "list"))
    assert (code, out) == (1, "")
    assert err.startswith("mailing: there is no database; set MAILING_DATABASE_URL, or run mailing up")
    assert [path.name for path in tmp_path.iterdir()] == ["given"]

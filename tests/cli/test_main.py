"""The command line as its user meets it: real processes, exit codes, one line of error."""

import asyncio
import fcntl
import os
import re
import shlex
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from functools import partial
from pathlib import Path
from subprocess import PIPE, CompletedProcess
from typing import IO

import click
import psycopg
import pytest
from click.testing import CliRunner

from mailing.cli.database import wait_for_schema
from mailing.cli.main import COMMANDS, cli
from mailing.database.migrations import migrate
from mailing.errors import Conflict, Invalid
from mailing.process.ports import free_port
from mailing.settings import Settings
from mailing.urls import http_url
from support import commands
from support.database import Database
from support.logs import logged
from support.postgres import url_of
from support.processes import MAILING, clean_environment, running, until
from support.running_site import free_port_with_the_next

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("commands")]

Command = Callable[..., CompletedProcess[str]]


def mailing(*arguments: str, directory: Path, **settings: str) -> CompletedProcess[str]:
    return commands.mailing(*arguments, cwd=directory, env=clean_environment(**settings))


@pytest.fixture
def on_database(database_url: str, tmp_path: Path) -> Command:
    """`mailing` in an empty directory, told the test's database."""
    return partial(mailing, directory=tmp_path, MAILING_DATABASE_URL=database_url)


@pytest.fixture
def typing(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`mailing` there, in this process; `typed` is its standard input, and what it prints is returned."""
    monkeypatch.chdir(tmp_path)
    others = dict.fromkeys((name for name in os.environ if name.startswith("MAILING_")), None)

    def run_here(*arguments: str, typed: str = "") -> str:
        chosen = others | {"MAILING_DATABASE_URL": database_url}
        return CliRunner().invoke(cli, arguments, input=typed, env=chosen, catch_exceptions=False).output

    return run_here


def test_every_command_has_help_with_an_example() -> None:
    assert set(COMMANDS) >= {
        *("up", "demo", "migrate", "api", "worker", "sandbox", "import", "export", "report", "doctor"),
        *("resume-after-restore", "user", "key", "privacy"),
    }
    groups = [(name, command) for name, command in loaded_commands().items() if isinstance(command, click.Group)]
    inner = [[group, name] for group, command in groups for name in command.commands]
    for arguments in [[name] for name in COMMANDS] + inner:
        shown = CliRunner().invoke(cli, [*arguments, "--help"])
        assert shown.exit_code == 0
        assert re.search(r"Example:\n\s+.*mailing", shown.output), shown.output


def loaded_commands() -> dict[str, click.Command]:
    found = {name: cli.get_command(click.Context(cli), name) for name in COMMANDS}
    return {name: command for name, command in found.items() if command}


def test_the_list_of_commands_says_what_each_says_of_itself() -> None:
    listed = {name: sentence for name, (_, sentence) in COMMANDS.items()}
    assert listed == {name: command.get_short_help_str(limit=200) for name, command in loaded_commands().items()}


@pytest.mark.parametrize(
    ("arguments", "settings", "complaint"),
    [
        (["nope"], {}, "No such command"),
        (["worker"], {}, "MAILING_DATABASE_URL is needed"),
        (["worker"], {"MAILING_GATEWAY_PROVIDER": "kannel"}, "needs MAILING_GATEWAY_USER and MAILING_GATEWAY_TOKEN"),
        (
            ["worker"],
            {"MAILING_GATEWAY_PROVIDER": "twilio", "MAILING_GATEWAY_USER": "me@example.org"},
            "MAILING_GATEWAY_USER must be the SID of a Twilio account",
        ),
        (["api"], {"MAILING_PORT": "x", "MAILING_PROT": "1"}, "MAILING_PROT is not a setting"),
        (["import", "missing.csv"], {}, "does not exist"),
        (["report", "--date", "yesterday"], {}, "is not a day, such as 2026-12-01"),
        (["resume-after-restore", "--nothing-was-lost", "--force"], {}, "cannot be combined with another option"),
        (["sandbox", "--latency", "nan"], {}, "is not a number of seconds"),
        (["key", "revoke", "0"], {}, "not in the range"),
        (["key", "revoke", str(2**63)], {}, "not in the range"),
    ],
)
def test_wrong_use_is_exit_2_with_a_reason(
    arguments: list[str], settings: dict[str, str], complaint: str, tmp_path: Path
) -> None:
    refused = mailing(*arguments, directory=tmp_path, **settings)
    assert refused.returncode == 2
    assert complaint in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("command", [["migrate"], ["key", "list"], ["export"], ["api"]])
def test_an_unreachable_database_is_exit_1_with_one_line(command: list[str], tmp_path: Path) -> None:
    nowhere = {"MAILING_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x", "MAILING_PORT": str(free_port())}
    refused = mailing(*command, directory=tmp_path, **nowhere)
    assert refused.returncode == 1
    told = [line for line in refused.stderr.splitlines() if line.startswith("mailing: ")]
    assert told == ["mailing: PostgreSQL at 127.0.0.1:1: [Errno 111] Connection refused"]
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("command", "place"),
    [
        ("api", {"MAILING_HOST": "mailing..example"}),
        ("api", {"MAILING_HOST": "192.0.2.1"}),
        ("up", {"MAILING_HOST": "mailing..example"}),
        ("up", {"MAILING_PORT": "65535"}),
    ],
)
def test_a_place_where_nothing_can_listen_is_exit_1_with_one_line(
    command: str, place: dict[str, str], tmp_path: Path
) -> None:
    chosen = {"MAILING_PORT": str(free_port()), **place}
    if command == "api":
        chosen["MAILING_DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/x"
    refused = mailing(command, directory=tmp_path, **chosen)
    assert refused.returncode == 1
    assert re.fullmatch(r"mailing: \S.*:\d+ is not available \(.+\); set MAILING_.*\n", refused.stderr)


@pytest.mark.parametrize("host", ["", "a b"])
def test_the_sandbox_names_a_host_that_it_cannot_listen_on(host: str, tmp_path: Path) -> None:
    refused = mailing("sandbox", "--host", host, directory=tmp_path)
    assert refused.returncode == 1
    assert re.fullmatch(r"mailing: .+; set --host or --port\n", refused.stderr)


def test_an_ipv6_host_is_printed_as_an_address_that_can_be_opened() -> None:
    assert [http_url(host, 80) for host in ("::1", "localhost")] == ["http://[::1]:80", "http://localhost:80"]


async def test_ctrl_c_ends_an_import_from_a_pipe_that_gives_nothing_more(database_url: str, tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "clients")
    env = clean_environment(MAILING_DATABASE_URL=database_url)
    async with running(*MAILING, "import", pipe, cwd=tmp_path, env=env, stderr=PIPE) as process:
        with pipe.open("wb", buffering=0) as writer:
            writer.write(b"phone,operator_code,tag,timezone\n")
            await until(lambda: not unread_bytes(writer))
            process.send_signal(signal.SIGINT)
            told = (await process.communicate())[1]
    assert process.returncode == 1
    assert told == b"\nAborted!\n"


def unread_bytes(pipe: IO[bytes]) -> int:
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_a_data_directory_that_cannot_be_used_is_exit_1_with_the_remedy(tmp_path: Path) -> None:
    port = str(free_port_with_the_next())
    refused = mailing("up", directory=tmp_path, MAILING_PORT=port, MAILING_DATA_DIR="/dev/null/data")
    assert refused.returncode == 1
    assert "data cannot be used (Not a directory); set MAILING_DATA_DIR" in refused.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_standard_stream_ends_no_command(closed: str, database_url: str, tmp_path: Path) -> None:
    command = shlex.join([*MAILING, "key", "list"])
    env = clean_environment(MAILING_DATABASE_URL=database_url)
    ended = subprocess.run(f"{command} {closed}", shell=True, cwd=tmp_path, env=env, check=False)  # noqa: S602 - a shell closes them
    assert ended.returncode == 0


@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize("command", [["--help"], ["doctor"], ["key", "list"], ["export"]], ids=" ".join)
def test_output_that_cannot_be_written_is_exit_1_with_one_line(
    command: list[str], buffered: str, database_url: str, tmp_path: Path
) -> None:
    """A full disk is told. A reader that went away, as `head` does, is not."""
    env = clean_environment(MAILING_DATABASE_URL=database_url, PYTHONUNBUFFERED=buffered)

    def told(output: IO[bytes]) -> list[str]:
        ended = subprocess.run(  # noqa: S603 - our own command
            [*MAILING, *command], stdout=output, stderr=PIPE, cwd=tmp_path, env=env, check=False
        )
        assert ended.returncode == 1
        return ended.stderr.decode().splitlines()

    reader, writer = os.pipe()
    os.close(reader)
    with Path("/dev/full").open("wb") as full, os.fdopen(writer, "wb") as pipe:
        assert told(full) == ["mailing: [Errno 28] No space left on device"]
        assert told(pipe) == []


def test_what_the_encoding_of_the_output_lacks_is_escaped(tmp_path: Path) -> None:
    env = clean_environment(PYTHONIOENCODING="koi8-r")
    done = subprocess.run([*MAILING, "doctor"], capture_output=True, cwd=tmp_path, env=env, check=False)  # noqa: S603 - our own command
    assert rb"\u2192" in done.stdout


def test_keys_are_created_listed_and_revoked(on_database: Command) -> None:
    key = on_database("key", "create", "crm").stdout.strip()
    assert re.fullmatch(r"mk_[\w-]{43}", key)
    on_database("key", "create", long := f"[/{96 * 'x'}]")
    listed = on_database("key", "list").stdout
    assert "crm" in listed
    assert long in listed, "neither wrapped nor taken for markup"
    assert key not in listed
    assert on_database("key", "revoke", "1").returncode == 0
    assert on_database("key", "revoke", "7").returncode == 1


def test_users_are_created_with_a_password_from_standard_input_listed_and_disabled(typing: Callable[..., str]) -> None:
    user = partial(typing, "user")
    assert user("create", "anna", typed="correct horse battery\n") == "User 1 created.\n"
    assert user("create", "boris", "--role", "viewer", typed="correct horse battery\n") == "User 2 created.\n"
    with pytest.raises(Conflict, match="user with this name"):
        user("create", "Anna", typed="correct horse battery\n")
    with pytest.raises(Invalid, match="password: must have 10 to 200 characters"):
        user("create", "clara", typed="short\n")
    assert "set" in user("password", "anna", typed="another one entirely\n")
    assert "disabled" in user("disable", "boris")
    with pytest.raises(Conflict, match="last admin"):
        user("disable", "anna")
    listed = user("list")
    assert "anna" in listed
    assert "boris" in listed


def test_a_user_with_keys_is_disabled_when_it_is_said_what_becomes_of_them(
    database_url: str, typing: Callable[..., str]
) -> None:
    for name in ("anna", "boris"):
        typing("user", "create", name, typed="correct horse battery\n")
    for name in ("crm", "shop"):
        typing("key", "create", name)
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE api_key SET created_by = 2")
    with pytest.raises(Conflict, match=r"1 \(crm, mk_.*\), 2 \(shop, mk_.*--revoke-keys or --keep-keys"):
        typing("user", "disable", "boris")
    assert typing("user", "disable", "boris", "--keep-keys") == "User disabled. API keys left working: 2.\n"
    assert typing("user", "disable", "boris", "--revoke-keys") == "User disabled. API keys revoked: 2.\n"
    assert typing("user", "disable", "boris") == "User disabled.\n"
    assert typing("user", "enable", "boris") == "User enabled.\n"
    assert typing("key", "list").count("boris") == 2


def test_clients_go_in_and_come_out_as_csv_and_a_bad_row_is_named(on_database: Command, tmp_path: Path) -> None:
    good = "79160000001,916,vip,Europe/Moscow\n79160000002,916,,Asia/Omsk\n"
    (tmp_path / "clients.csv").write_text(f"phone,operator_code,tag,timezone\n{good}12,916,,Asia/Omsk\n")
    imported = on_database("import", "clients.csv")
    assert imported.returncode == 1
    assert "2 created, 0 updated, 1 rejected" in imported.stdout
    assert "line 4: phone: " in imported.stderr
    exported = on_database("export")
    assert exported.returncode == 0
    assert exported.stdout.splitlines()[1:] == [f"{line},no" for line in good.splitlines()]


async def test_sending_is_resumed_after_a_restore_and_only_then(on_database: Command, db: Database) -> None:
    idle = on_database("resume-after-restore")
    assert (idle.returncode, idle.stdout) == (0, "This database was not restored from a backup. Nothing to do.\n")
    await db.run("UPDATE installation SET database_identity = 'elsewhere'")
    foretold = on_database("resume-after-restore", "--dry-run")
    assert await db.value("SELECT database_identity FROM installation") == "elsewhere"
    done = on_database("resume-after-restore")
    assert await db.value("SELECT database_identity = database_identity() FROM installation")
    assert [foretold.returncode, done.returncode] == [0, 0]
    assert foretold.stdout.splitlines()[0] == done.stdout.splitlines()[0]
    assert done.stdout.splitlines() == [
        "new ids start at: message 1000000000000, mailing 1000000000, client 1000000000",
        "Sending is enabled.",
    ]
    insisted = on_database("resume-after-restore", "--force")
    assert "message 2000000000000" in insisted.stdout


def test_a_report_is_printed_and_nothing_sent(on_database: Command) -> None:
    printed = on_database("report", "--dry-run")
    assert printed.returncode == 0
    assert printed.stdout.startswith("Mailing report for ")
    assert re.search(r"^  sent +0  accepted by the gateway$", printed.stdout, flags=re.MULTILINE)


def test_a_process_refuses_a_schema_that_is_not_its_own(database_url: str, tmp_path: Path) -> None:
    told = {"MAILING_DATABASE_URL": url_of(database_url, "template1"), "MAILING_GATEWAY_URL": "http://127.0.0.1:1/v1"}
    refused = mailing("worker", directory=tmp_path, **told)
    assert refused.returncode == 1
    assert "run mailing migrate" in refused.stderr


@pytest.mark.slow
async def test_a_process_told_to_wait_starts_once_the_schema_is_there(database_url: str, db: Database) -> None:
    await migrate(db.engine, "base")
    with logged(Settings()) as lines:
        waiting = asyncio.create_task(wait_for_schema(Settings(database_url=database_url), 20, limit_s=60))
        await until(lambda: lines("waiting for the database"))
        await migrate(db.engine)
        await waiting
        (line,) = lines("waiting for the database")
    assert line["for_s"] == 20
    assert "run mailing migrate" in line["error"]

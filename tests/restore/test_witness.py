"""Backups of a whole cluster, with a server of their own: its files copied back, and a new timeline."""

import asyncio
import os
import shutil
import signal
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from mailing.database.migrations import migrate
from mailing.mailings.after_restore import wake_started
from mailing.process import embedded_postgres
from mailing.restore.witness import witnessing
from mailing.settings import Settings
from support.api import running_api
from support.database import Database, open_database
from support.postgres import memory
from support.processes import until
from support.roles import grant

pytestmark = pytest.mark.xdist_group("embedded")

RECOVERED = "DO 'BEGIN WHILE pg_is_in_recovery() LOOP PERFORM pg_sleep(0.1); END LOOP; END'"
RESTORED = "SELECT database_identity <> database_identity() FROM installation"
ROLLED_BACK = "SELECT count(*) FROM event WHERE kind = 'database.rolled_back' AND actor = 'worker'"

CLIENT = {"phone": "79161234567", "timezone": "UTC"}
MAILING = {"text": "Hello", "starts_at": "2030-01-01T00:00:00Z", "ends_at": "2031-01-01T00:00:00Z"}
READS = (
    *("/clients/", "/clients/1/", "/mailings/", "/mailings/1/", "/statistics/"),
    *("/statistics/1/", "/events/?mailing_id=1", "/gateway/", "http://test/health/ready"),
)


class Cluster:
    """A data directory, and a copy of its files."""

    def __init__(self, home: Path) -> None:
        self._data = home / "data"
        self._copy = home / "copy.tar"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.to_thread(embedded_postgres.start, self._data)
        try:
            yield server.url
        finally:
            await asyncio.to_thread(server.stop)

    def copy(self) -> None:
        with tarfile.open(self._copy, "w") as copy:
            copy.add(self._data / "postgres", "postgres")

    def put_copy_back(self) -> None:
        shutil.rmtree(self._data / "postgres")
        with tarfile.open(self._copy) as copy:
            copy.extraction_filter = tarfile.fully_trusted_filter if hasattr(tarfile, "fully_trusted_filter") else None
            copy.extractall(self._data, numeric_owner=True)  # noqa: S202 - our own

    def recover_on_a_new_timeline(self) -> None:
        """As a recovery to a point in time ends, and as a standby is promoted."""
        with (self._data / "postgres" / "postgresql.auto.conf").open("a") as settings:
            settings.write("restore_command = 'false'\n")
        self._touch("recovery.signal")

    def follow(self) -> None:
        """As a standby that waits for more from its primary."""
        self._touch("standby.signal")

    def _touch(self, name: str) -> None:
        directory = self._data / "postgres"
        (directory / name).touch()
        os.chown(directory / name, directory.stat().st_uid, directory.stat().st_gid)

    def kill(self) -> None:
        """As a crash does: nothing is flushed on the way out."""
        os.kill(int((self._data / "postgres" / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)


@pytest.fixture(scope="module")
def prepared() -> Iterator[Path]:
    """The home of a cluster with the schema; stopped."""
    with tempfile.TemporaryDirectory(prefix="mailing-tests-", dir=memory()) as directory:
        home = Path(directory).resolve()
        asyncio.run(_prepare(Cluster(home)))
        yield home


async def _prepare(cluster: Cluster) -> None:
    async with cluster.running() as url, open_database(url) as db:
        await migrate(db.engine)
    cluster.copy()


@pytest.fixture
def cluster(prepared: Path) -> Iterator[Cluster]:
    cluster = Cluster(prepared)
    yield cluster
    cluster.put_copy_back()


@asynccontextmanager
async def _witnessed(cluster: Cluster, *, lossless: bool = False) -> AsyncIterator[Database]:
    """Yield the database of a server that does not run yet, with a witness at work."""
    async with cluster.running() as url:
        pass
    async with (
        open_database(url, pool_size=2) as db,
        witnessing(db.engine, by="worker", wake=wake_started, lossless=lossless),
    ):
        yield db


async def test_files_copied_back_under_a_running_process_are_noticed_before_it_sends(cluster: Cluster) -> None:
    async with _witnessed(cluster) as db:
        async with cluster.running():
            await db.add_clients(1000)
            await db.engine.dispose()
            await _ticked(db)
        cluster.put_copy_back()
        async with cluster.running():
            assert await db.value(RESTORED)
            assert [await db.value(ROLLED_BACK), await db.value("SELECT count(*) FROM client")] == [1, 0]
            await db.run("UPDATE installation SET database_identity = database_identity()")
            await db.engine.dispose()
            assert not await db.value(RESTORED)  # what it remembers now is this log


async def _ticked(db: Database) -> None:
    await until(lambda: db.value("SELECT count(*) FROM witness WHERE tick > 1"), seconds=30, every_s=0.1)


async def test_a_server_killed_and_recovered_is_no_restored_one(cluster: Cluster) -> None:
    async with _witnessed(cluster) as db:
        async with cluster.running():
            await db.add_clients(1000)
            await _ticked(db)
            cluster.kill()
        async with cluster.running():
            assert not await db.value(RESTORED)
            assert await db.value("SELECT count(*) FROM client") == 1000


async def test_a_recovery_to_an_earlier_moment_under_a_living_process_disables_sending(cluster: Cluster) -> None:
    """Though every failover is declared to lose nothing, and only the timeline is another one."""
    async with _witnessed(cluster, lossless=True) as db:
        async with cluster.running():
            await _ticked(db)
            await db.engine.dispose()
        cluster.put_copy_back()
        cluster.recover_on_a_new_timeline()
        async with cluster.running():
            await db.run(RECOVERED)
            await db.engine.dispose()
            assert await db.value("SELECT database_identity = 'restored' FROM installation")
            assert await db.value(ROLLED_BACK) == 1


async def test_a_standby_answers_what_reads_and_says_where_changes_are_taken(
    cluster: Cluster, settings: Settings
) -> None:
    async with cluster.running() as url:
        await grant(url)
        async with running_api(replace(settings, database_url=url)) as api:
            (await api.post("/clients/", json=CLIENT)).raise_for_status()
            (await api.post("/mailings/", json=MAILING)).raise_for_status()
    cluster.follow()
    async with cluster.running() as url, running_api(replace(settings, database_url=url)) as api:
        answers = {path: await api.get(path) for path in READS}
        assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(READS, 200)
        assert answers["/statistics/"].json()["mailings"] == 1
        assert not answers["/gateway/"].json()["restored"]
        refused = await api.post("/clients/", json=CLIENT | {"phone": "79161234568"})
        assert refused.status_code == 503
        assert "read-only" in refused.json()["detail"]
        metrics = await api.get("http://test/metrics")
        assert "mailing_database_up 1.0" in metrics.text

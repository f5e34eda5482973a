"""The run's own PostgreSQL, with everything that can happen to a server: restarts, cut connections, a freeze."""

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg

from mailing.database.engine import create_engine
from mailing.database.migrations import migrate
from support.postgres import TUNING, Cluster, own_cluster

DATABASE = "chaos"
DURABLE = ("fsync=on", "full_page_writes=on")
OBSERVER = "chaos"  # the harness's own connections: not cut when all others are


class Database:
    """`url` is the same before and after every restart. Starting and stopping block: call them in a thread.

    Without `fsync` a restart loses nothing either, because the operating system lives on; only a power cut would.
    """

    def __init__(self, cluster: Cluster, *, fsync: bool) -> None:
        self._cluster = cluster
        self._tuning = (*TUNING, *DURABLE) if fsync else TUNING
        self.url = cluster.url.rpartition("/")[0] + f"/{DATABASE}"

    def start(self) -> None:
        self._cluster.start(self._tuning)

    def stop(self, mode: str = "fast") -> None:
        self._cluster.stop(mode)

    def restart_immediately(self) -> None:
        """As after a crash: no checkpoint, every connection broken, recovery from the log."""
        self.stop("immediate")
        self.start()

    def freeze(self) -> None:
        """As on a machine that hangs: connections stay open, nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    async def terminate_backends(self) -> int:
        """Every connection of the product, in the middle of whatever it does. Returns how many."""
        async with self.connection() as observer:
            cut = await observer.fetchval(
                """SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
                   WHERE datname = current_database() AND backend_type = 'client backend' AND application_name <> $1""",
                OBSERVER,
            )
        return int(cut)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self.url, server_settings={"application_name": OBSERVER})
        try:
            yield connection
        finally:
            await connection.close()

    async def create(self) -> None:
        """Create the database with the schema."""
        admin = await asyncpg.connect(self._cluster.url)
        await admin.execute(f"CREATE DATABASE {DATABASE}")
        await admin.close()
        await self.migrate()

    async def migrate(self) -> None:
        engine = create_engine(self.url, application=OBSERVER, pool_size=1)
        await migrate(engine)
        await engine.dispose()

    @property
    def is_up(self) -> bool:
        return self._pid_file.exists()

    @property
    def _pid_file(self) -> Path:
        return self._cluster.data / "postmaster.pid"

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _processes(self) -> Iterator[int]:
        """Stop the postmaster first, so that it starts no backend meanwhile."""
        postmaster = int(self._pid_file.read_text().splitlines()[0])
        yield postmaster
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)  # noqa: S607 - the system's ps
        yield from (int(pid) for pid, parent in map(str.split, listed.stdout.splitlines()) if int(parent) == postmaster)


@asynccontextmanager
async def database(*, fsync: bool) -> AsyncIterator[Database]:
    """Run a server with the schema until the block ends; remove whatever a fault left of it."""
    cluster = own_cluster()
    own = Database(cluster, fsync=fsync)
    own.start()
    try:
        await own.create()
        yield own
    finally:
        if own.is_up:
            own.thaw()
            own.stop("immediate")
        cluster.remove()

"""The run's own PostgreSQL, with everything that can happen to a server: restarts, cut connections, a freeze."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import asyncpg

from support.postgres import TUNING, Cluster, create_database, own_cluster, running, url_of

DATABASE = "chaos"
DURABLE = ("fsync=on", "full_page_writes=on")
OBSERVER = "chaos"  # the harness's own connections: not cut when all others are


class Database:
    """`url` is the same before and after every restart. Starting and stopping block: call them in a thread.

    Without `fsync` a restart loses nothing either, because the operating system lives on; only a power cut would.
    """

    def __init__(self, cluster: Cluster, tuning: Sequence[str]) -> None:
        self._cluster = cluster
        self._tuning = tuning
        self.url = url_of(cluster.url, DATABASE)
        self.freeze = cluster.freeze
        self.thaw = cluster.thaw

    def start(self) -> None:
        self._cluster.start(self._tuning)

    def stop(self, mode: str = "fast") -> None:
        self._cluster.stop(mode)

    def restart_immediately(self) -> None:
        """As after a crash: no checkpoint, every connection broken, recovery from the log."""
        self.stop("immediate")
        self.start()

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


@asynccontextmanager
async def database(*, fsync: bool) -> AsyncIterator[Database]:
    """Run a server with the schema until the block ends; remove whatever a fault left of it."""
    tuning = (*TUNING, *DURABLE) if fsync else TUNING
    with running(own_cluster(), tuning) as cluster:
        await create_database(cluster.url, DATABASE)
        try:
            yield Database(cluster, tuning)
        finally:
            with suppress(FileNotFoundError):  # it is down
                cluster.thaw()

"""A primary and its standby: copies of one prepared cluster, so that a pair starts in a second."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg

from mailing.process.ports import free_port
from support.postgres import TUNING, Cluster, memory, own_cluster, running
from support.processes import until
from support.roles import furnish

NAME = "standby"
ACCESS = "local all all trust\nhost all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n"
SMALL = ("max_connections=60", "shared_buffers=32MB", "restart_after_crash=off")
STREAMING = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = $1"
CAUGHT_UP = "SELECT flush_lsn >= pg_current_wal_flush_lsn() FROM pg_stat_replication"
CUT_OFF = "SELECT count(*) = 0 FROM pg_stat_wal_receiver"
PATIENCE_S = 30


@contextmanager
def prepared() -> Iterator[Cluster]:
    """Make a cluster with the schema and the roles; stopped."""
    cluster = own_cluster(memory())
    _write(cluster, "pg_hba.conf", ACCESS)
    with running(cluster, (*TUNING, *SMALL)):
        asyncio.run(furnish(cluster.url))
        cluster.stop("fast")
        yield cluster


@dataclass
class Pair:
    """`url` names both; `synchronous`: a commit waits for the standby."""

    primary: Cluster
    standby: Cluster

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.primary.port},127.0.0.1:{self.standby.port}/postgres"

    async def start(self, *, synchronous: bool) -> None:
        names = f"\nsynchronous_standby_names = '{NAME}'\n" if synchronous else ""
        _write(self.primary, "postgresql.auto.conf", names)
        source = f"host=127.0.0.1 port={self.primary.port} user=postgres application_name={NAME}"
        _write(self.standby, "postgresql.auto.conf", f"primary_conninfo = '{source}'\n")
        _write(self.standby, "standby.signal", "")
        self.primary.start((*TUNING, *SMALL))
        self.standby.start((*TUNING, *SMALL))
        async with _connected(self.primary) as connection:
            state = "sync" if synchronous else "async"
            await _until(connection, STREAMING, state)

    async def cut_standby_off(self) -> None:
        """Let it receive no more; the primary no longer waits for it."""
        async with _connected(self.standby) as connection:
            await connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
            await connection.execute("SELECT pg_reload_conf()")
            await _until(connection, CUT_OFF)
        async with _connected(self.primary) as connection:
            await connection.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
            await connection.execute("SELECT pg_reload_conf()")

    async def caught_up(self) -> None:
        """Wait until an asynchronous standby has everything."""
        async with _connected(self.primary) as connection:
            await _until(connection, CAUGHT_UP)

    def restart_primary_as_patroni_does(self) -> None:
        """After a crash: in recovery, then promoted, and so on a new timeline."""
        self.primary.stop("immediate")
        _write(self.primary, "standby.signal", "")
        self.primary.start((*TUNING, *SMALL))
        self.primary.run("pg_ctl", "-D", str(self.primary.data), "-w", "promote")

    def fail_over(self) -> None:
        self.primary.stop("immediate")
        self.promote()

    def promote(self) -> None:
        self.standby.run("pg_ctl", "-D", str(self.standby.data), "-w", "promote")

    def stop(self) -> None:
        with suppress(OSError):
            self.primary.thaw()  # a test may have failed before it did
        for cluster in (self.primary, self.standby):
            with suppress(subprocess.CalledProcessError, RuntimeError):
                cluster.stop("immediate")
        shutil.rmtree(self.primary.home / "pair", ignore_errors=True)


@asynccontextmanager
async def running_pair(source: Cluster, *, synchronous: bool = True) -> AsyncIterator[Pair]:
    place = source.home / "pair"
    place.mkdir()
    _give(place, source)
    pair = Pair(*(replace(source, data=place / name, port=free_port()) for name in ("primary", "standby")))
    for cluster in (pair.primary, pair.standby):
        subprocess.run(["cp", "-a", source.data, cluster.data], check=True)  # noqa: S603, S607 - the system's cp
    try:
        await pair.start(synchronous=synchronous)
        yield pair
    finally:
        pair.stop()


def _write(cluster: Cluster, name: str, content: str) -> None:
    (cluster.data / name).write_text(content)
    _give(cluster.data / name, cluster)


def _give(path: Path, cluster: Cluster) -> None:
    """To the user whom the cluster belongs to."""
    owner = (cluster.home / "data").stat()
    os.chown(path, owner.st_uid, owner.st_gid)


async def _until(connection: asyncpg.Connection, statement: str, *values: object) -> None:
    await until(lambda: connection.fetchval(statement, *values), seconds=PATIENCE_S, every_s=0.05)


@asynccontextmanager
async def _connected(cluster: Cluster) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(cluster.url)
    try:
        yield connection
    finally:
        await connection.close()

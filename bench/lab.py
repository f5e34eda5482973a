"""Resources shared by all parties of a run: a PostgreSQL cluster, a gateway stub, a directory, sizes."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from bench.errors import BenchError
from bench.stub import Stub, running_stub
from mailing.settings import PREFIX
from support.postgres import Cluster, create_database, own_cluster, running, url_of
from support.processes import MAILING, clean_environment

# The same for all parties. The rest is PostgreSQL's default, including fsync and synchronous_commit. A checkpoint runs
# before each measurement, and the log is large enough that none starts during one.
SETTINGS = ("shared_buffers=1GB", "max_wal_size=8GB", "checkpoint_timeout=30min", "max_connections=200")
OURS = "mailing_template"  # a database with our schema in it


@dataclass(frozen=True)
class Lab:
    """`is_quick`: small numbers, which only show that everything works."""

    directory: Path
    cluster: Cluster
    stub: Stub
    is_quick: bool

    def count(self, full: int, *, quick: int) -> int:
        return quick if self.is_quick else full

    @property
    def log(self) -> Path:
        """The log file of the processes."""
        return self.directory / "processes.log"

    def url(self, database: str) -> str:
        return url_of(self.cluster.url, database)

    @contextmanager
    def database(self, name: str, *, like: str = "template1") -> Iterator[str]:
        """Create a database and yield its URL. Everything is on disk before the block starts."""
        with psycopg.connect(self.cluster.url, autocommit=True) as server:
            server.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{like}" STRATEGY file_copy')
        if like != "template1":
            self.sql(
                name, "UPDATE installation SET database_identity = database_identity()"
            )  # a copy is not a restored backup here
        with psycopg.connect(self.cluster.url, autocommit=True) as server:
            server.execute("CHECKPOINT")
        yield self.url(name)
        with psycopg.connect(self.cluster.url, autocommit=True) as server:
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    @contextmanager
    def listening_on(self, host: str) -> Iterator[None]:
        """Let PostgreSQL listen on an address of the benchmark's network, beside 127.0.0.1."""
        with (self.cluster.data / "pg_hba.conf").open("a") as access:
            access.write(f"host all all {host}/16 trust\n")
        self._restart(f"listen_addresses=127.0.0.1,{host}")
        try:
            yield
        finally:
            self._restart()

    @contextmanager
    def preloading(self, library: str) -> Iterator[None]:
        """Run PostgreSQL with a library that must be loaded at its start."""
        self._restart(f"shared_preload_libraries={library}")
        try:
            yield
        finally:
            self._restart()

    def _restart(self, *settings: str) -> None:
        self.cluster.stop("fast")
        self.cluster.start((*SETTINGS, *settings))

    def sql(self, database: str, *statements: str, **values: object) -> list[tuple[Any, ...]]:
        """Execute statements in a transaction. Return the rows of the last one."""
        with psycopg.connect(self.url(database)) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def value(self, database: str, statement: str, **values: object) -> Any:  # noqa: ANN401 - a column
        return self.sql(database, statement, **values)[0][0]

    def check(self, database: str, statement: str, *expected: int) -> None:
        """Raise BenchError unless the statement's row is this one."""
        (found,) = self.sql(database, statement)
        if found != expected:
            raise BenchError(f"{found} instead of {expected}: {statement}")

    def vacuum(self, database: str) -> None:
        """Vacuum, as autovacuum would some minutes later, and write everything to disk."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")

    def tool(self, name: str) -> str:
        """Find a tool such as psql or pgbench, of the system or of the embedded PostgreSQL."""
        return shutil.which(name) or str(_embedded_tools() / name)

    def mailing(self, database: str, **settings: object) -> dict[str, str]:
        """Build the environment of our commands, with only these settings."""
        given = {"database_url": self.url(database), "log_format": "json", "log_level": "warning"} | settings
        return clean_environment(**{PREFIX + name.upper(): str(value) for name, value in given.items()})


@contextmanager
def lab(*, is_quick: bool) -> Iterator[Lab]:
    directory = Path(tempfile.mkdtemp(prefix="mailing-bench-"))
    directory.chmod(0o755)
    with running(own_cluster(), SETTINGS) as cluster, running_stub(directory / "gateway") as stub:
        asyncio.run(create_database(cluster.url, OURS))
        yield Lab(directory, cluster, stub, is_quick)
    shutil.rmtree(directory, ignore_errors=True)  # kept after a failure


def mailing(*arguments: str) -> list[str]:
    return [*MAILING, *arguments]


def _embedded_tools() -> Path:
    from mailing.process.embedded_postgres.binaries import find_binaries  # noqa: PLC0415 - only if the system has none

    return find_binaries().directory

"""The benchmark's PostgreSQL: with the product's migrations, and counting what each statement reads."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from support.postgres import Cluster, create_database, own_cluster, running

# The rest is PostgreSQL's default: fsync, synchronous_commit and autovacuum are on.
SETTINGS = (
    "shared_buffers=1GB",
    "max_wal_size=8GB",
    "checkpoint_timeout=15min",
    "max_connections=50",
)
COUNTING = ("shared_preload_libraries=pg_stat_statements", "pg_stat_statements.track=top")


@contextmanager
def cluster() -> Iterator[tuple[Cluster, tuple[str, ...]]]:
    """Run a cluster, removed at the end. The embedded server lacks pg_stat_statements, so buffers are not measured."""
    own = own_cluster()
    settings = SETTINGS if own.kind == "embedded" else SETTINGS + COUNTING
    with running(own, settings):
        yield own, settings


async def make_database(own: Cluster, name: str) -> str:
    """Create an empty database with the schema. Return its URL."""
    url = await create_database(own.url, name)
    if own.kind != "embedded":
        await _execute(url, "CREATE EXTENSION pg_stat_statements")
    return url


async def drop_database(own: Cluster, name: str) -> None:
    await _execute(own.url, f"DROP DATABASE {name} WITH (FORCE)")


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()

"""A PostgreSQL of the benchmark's own, with the product's migrations."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from mailing.database.engine import create_engine
from mailing.database.migrations import migrate
from support.postgres import Cluster, own_cluster

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
    try:
        own.start(settings)
        yield own, settings
    finally:
        own.stop()
        own.remove()


async def make_database(own: Cluster, name: str) -> str:
    """Create an empty database with the schema. Return its URL."""
    admin = await asyncpg.connect(own.url)
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    url = own.url.removesuffix("/postgres") + f"/{name}"
    engine = create_engine(url, application="bench", pool_size=1)
    await migrate(engine)
    await engine.dispose()
    if own.kind != "embedded":
        inside = await asyncpg.connect(url)
        await inside.execute("CREATE EXTENSION pg_stat_statements")
        await inside.close()
    return url


async def drop_database(own: Cluster, name: str) -> None:
    admin = await asyncpg.connect(own.url)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()

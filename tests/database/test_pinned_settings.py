"""Whatever server, database and role are set to, both drivers work as if they were not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg
import pytest

from mailing.database.engine import transaction
from mailing.database.migrations import migrate
from mailing.database.schema import is_current
from mailing.job_queue.enqueue import defer
from mailing.job_queue.worker import Queue
from support.database import Database, open_database
from support.database_copies import end_idle_connections
from support.hostile_settings import HOSTILE, change, make_hostile
from support.roles import url_as

SHOW = "SELECT n, current_setting(n) FROM unnest(CAST(string_to_array('{names}', ' ') AS text[])) AS n"


@pytest.fixture
async def hostile_url(database_url: str) -> str:
    await make_hostile(database_url)
    return database_url


Asked = Callable[[str], Awaitable[list[tuple[Any, ...]]]]
Driver = Callable[[str], AbstractAsyncContextManager[Asked]]


@asynccontextmanager
async def by_asyncpg(url: str) -> AsyncIterator[Asked]:
    async def asked(statement: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await db.run(statement)]

    async with open_database(url, limit_s=20) as db:
        yield asked


@asynccontextmanager
async def by_psycopg(url: str) -> AsyncIterator[Asked]:
    """Open a connection as the queue does for its jobs and for LISTEN."""
    connector = Queue(url, concurrency=1)._connector  # noqa: SLF001 - nothing else hands one out
    await connector.open_async()

    async def asked(statement: str) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in await connector.execute_query_all_async(statement)]

    yield asked
    await connector.close_async()


@pytest.mark.parametrize("driver", [by_asyncpg, by_psycopg])
async def test_no_setting_of_server_or_role_reaches_a_connection(driver: Driver, hostile_url: str) -> None:
    async with driver(hostile_url) as asked:
        shown: dict[str, str] = dict(await asked(SHOW.format(names=" ".join(HOSTILE))))
    assert shown == {name: pinned for name, (_, pinned) in HOSTILE.items()}


@pytest.mark.parametrize("driver", [by_asyncpg, by_psycopg])
@pytest.mark.parametrize(
    ("chosen", "kept"),
    [("off", "on"), ("local", "on"), ("on", "on"), ("remote_write", "remote_write"), ("remote_apply", "remote_apply")],
)
async def test_a_commit_is_made_as_durable_as_the_server_can_and_no_less(
    driver: Driver, database_url: str, chosen: str, kept: str
) -> None:
    await change(database_url, {"synchronous_commit": chosen})
    async with driver(database_url) as asked:
        assert await asked("SELECT current_setting('synchronous_commit')") == [(kept,)]


async def test_settings_changed_on_a_running_server_do_not_reach_connections_that_are_open(db: Database) -> None:
    """A reload changes only what no session has set for itself."""
    unset = await db.value(
        "SELECT count(*) FROM pg_settings WHERE source <> 'session' AND name = ANY(:names)",
        names=[name for name in HOSTILE if name != "jit_above_cost"],
    )
    assert unset == 0


async def test_a_queue_works_under_hostile_settings(hostile_url: str) -> None:
    done, ticked = asyncio.Event(), asyncio.Event()

    async def handler(mailing_id: int) -> None:
        del mailing_id
        done.set()

    async def tick() -> None:
        ticked.set()

    queue = Queue(hostile_url, concurrency=1)
    queue.task("plan", handler)
    queue.periodic("tick", tick, cron="* * * * * */1")
    stop = asyncio.Event()
    worker = asyncio.create_task(queue.run(stop))
    async with open_database(hostile_url) as db, transaction(db.sessions) as session:
        await defer(session, "plan", mailing_id=1)
    async with asyncio.timeout(30):
        await done.wait()
        await ticked.wait()
    stop.set()
    await worker


async def test_triggers_that_are_switched_off_are_switched_on_or_refused_where_the_role_may_not(
    database_url: str,
) -> None:
    await change(database_url, {"session_replication_role": "replica"})
    async with by_asyncpg(database_url) as asked:
        assert await asked("SELECT current_setting('session_replication_role')") == [("origin",)]
    async with by_asyncpg(url_as("mailing_worker", database_url)) as asked:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="session_replication_role"):
            await asked("SELECT 1")


async def test_tables_in_a_schema_of_their_own_are_found_whatever_the_path(database_url: str, db: Database) -> None:
    await db.run("ALTER SCHEMA public RENAME TO campaigns")
    await db.run("CREATE SCHEMA public")
    await db.engine.dispose()
    end_idle_connections()
    async with by_asyncpg(database_url) as asked:
        assert await asked("SELECT current_setting('search_path')") == [("campaigns",)]
    assert await is_current(db.engine)


async def test_of_two_installations_in_one_database_the_roles_own_path_decides(database_url: str, db: Database) -> None:
    await db.run("CREATE SCHEMA staging")
    for table in ("alembic_version", "mailing_counts"):
        await db.run(f"CREATE TABLE staging.{table} (LIKE public.{table})")
    for path, found in (("elsewhere, staging, public", "staging"), ("elsewhere", "public"), ("public", "public")):
        await change(database_url, {"search_path": path})
        async with by_asyncpg(database_url) as asked:
            assert await asked("SELECT current_setting('search_path')") == [(found,)]


async def test_an_empty_database_is_installed_in_public_whatever_the_path(database_url: str, db: Database) -> None:
    await migrate(db.engine, "base")
    await db.run("CREATE SCHEMA elsewhere")
    await change(database_url, {"search_path": "elsewhere"})
    await db.engine.dispose()
    await migrate(db.engine)
    assert await db.value("SELECT to_regclass('public.mailing') IS NOT NULL")

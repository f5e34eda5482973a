"""A database that answers nothing: nobody waits for it, and one question at a time finds out when it is back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from mailing.database.engine import create_engine
from mailing.database.errors import DATABASE_ERRORS, is_transient
from mailing.database.reachability import AWAY_AFTER_TICKS, PROBE_AFTER_TICKS, Reachability
from mailing.settings import Settings
from support.database import Database
from support.processes import until
from support.proxy import proxy

PATIENCE_S = 60
FOR_EVER_S = 600  # limits that no test reaches: only the reachability ends what waits
LOCK = "SELECT pg_advisory_lock(1) IS NULL"
UNLOCK = "SELECT pg_advisory_unlock(1)"
IS_AWAITED = """
    SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
        WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted)"""


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[tuple[Reachability, Database]]:
    """Yield a pool of two connections, and its reachability, whose ticks are the test's."""
    separator = "&" if "?" in str(settings.database_url) else "?"
    url = f"{settings.database_url}{separator}connect_timeout={FOR_EVER_S}"
    reachability = Reachability(url, application="tests", limit_s=FOR_EVER_S)
    engine = create_engine(
        url, application="tests", pool_size=2, limit_s=FOR_EVER_S, wait_s=FOR_EVER_S, reachability=reachability
    )
    try:
        yield reachability, Database(engine)
    finally:
        await reachability.aclose()
        await engine.dispose()


async def waits_for_lock(connection: AsyncConnection) -> None:
    while True:
        if (await connection.exec_driver_sql(IS_AWAITED)).scalar_one():
            return
        await asyncio.sleep(0.05)


async def test_whatever_waits_for_a_silent_database_ends_once_it_is_away_and_goes_on_when_it_answers(
    settings: Settings, db: Database
) -> None:
    async with (
        proxy(settings) as (between, through),
        connected(through) as (reachability, pool),
        db.engine.connect() as other,
        asyncio.timeout(PATIENCE_S),
    ):
        await other.exec_driver_sql(LOCK)
        in_flight = asyncio.create_task(pool.value(LOCK))
        await waits_for_lock(other)
        between.freeze()
        connecting = asyncio.create_task(pool.value("SELECT 1"))
        await until(lambda: between.accepted == 2, seconds=PATIENCE_S)
        queueing = asyncio.create_task(pool.value("SELECT 1"))
        for _ in range(AWAY_AFTER_TICKS):
            reachability.tick()
        ended = await asyncio.gather(in_flight, connecting, queueing, return_exceptions=True)
        assert reachability.is_away
        assert all(isinstance(error, DATABASE_ERRORS) and is_transient(error) for error in ended), ended
        await until(lambda: between.accepted == 3, seconds=PATIENCE_S)
        for _ in range(3 * AWAY_AFTER_TICKS):
            reachability.tick()
            with pytest.raises(DATABASE_ERRORS):
                await pool.value("SELECT 1")
        assert between.accepted == 3, "one question, and nothing else"
        between.thaw()
        await until(lambda: not reachability.is_away, seconds=PATIENCE_S)
        assert await pool.value("SELECT 1") == 1


async def test_a_statement_may_take_long_while_the_database_answers(settings: Settings, db: Database) -> None:
    async with connected(settings) as (reachability, pool), db.engine.connect() as other, asyncio.timeout(PATIENCE_S):
        await other.exec_driver_sql(LOCK)
        slow = asyncio.create_task(pool.value(LOCK))
        await waits_for_lock(other)
        for _ in range(2 * AWAY_AFTER_TICKS):
            for _ in range(PROBE_AFTER_TICKS):
                reachability.tick()
            await until(lambda: reachability.silent_ticks == 0, seconds=PATIENCE_S)
        await other.exec_driver_sql(UNLOCK)
        assert await slow is False


async def test_a_refusal_is_an_answer(settings: Settings) -> None:
    """As of a server that has no connection left, or is starting."""
    url = str(settings.database_url).replace("/test_", "/no_such_")
    reachability = Reachability(url, application="tests", limit_s=FOR_EVER_S)
    for _ in range(PROBE_AFTER_TICKS):
        reachability.tick()
    await until(lambda: reachability.silent_ticks == 0, seconds=PATIENCE_S)

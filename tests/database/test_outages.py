"""The API on an unsteady database: every caller is told within seconds, and afterwards the pool is good again."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager, suppress
from typing import Any

import asyncpg
import pytest
from sqlalchemy import event
from sqlalchemy.engine import AdaptedConnection

from mailing import app
from mailing.access import api_keys
from mailing.database import connections, reachability
from mailing.database.errors import DATABASE_ERRORS
from mailing.database.read_pool import MAX_READERS, ReadPool
from mailing.settings import Settings
from support.api import Api, running_api
from support.database import Database, open_database
from support.loop_time import advance
from support.processes import until
from support.proxy import proxy

pytestmark = pytest.mark.slow

MAILING = {"text": "Hello", "starts_at": "2030-01-01T00:00:00Z", "ends_at": "2031-01-01T00:00:00Z"}
PATIENCE_S = 60


async def statuses(api: Api, count: int) -> set[int]:
    """Of as many requests at once."""
    answers = await asyncio.gather(*[api.post("/mailings/", json=MAILING) for _ in range(count)])
    return {answer.status_code for answer in answers}


async def answered(api: Api) -> None:
    """Wait until the API has noticed that the database is back. Whatever waits on a dead connection gives up first."""
    advance(connections.CONNECT_S)
    while True:
        if (await api.get("/mailings/")).status_code == 200:
            return
        await asyncio.sleep(0.1)


@contextmanager
def quick_to_notice() -> Iterator[None]:
    """The API's patience with a database that is silent is short. One that answers is not to be tested so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reachability, "TICK_S", reachability.TICK_S / 5)
        yield


async def test_connections_that_are_dead_without_knowing_it_are_replaced_before_they_are_used(
    settings: Settings,
) -> None:
    async with proxy(settings) as (between, through), running_api(through) as api, asyncio.timeout(PATIENCE_S):
        assert await statuses(api, 5) == {201}
        between.forget()
        assert await statuses(api, 5) == {201}
        await between.reset()
        assert await statuses(api, 5) == {201}


async def test_a_connection_that_the_server_has_closed_is_replaced_though_it_was_used_a_moment_ago(
    database_url: str,
) -> None:
    async with open_database(database_url) as db:
        connections.skip_recent_pings(db.engine, within_s=PATIENCE_S)
        async with db.engine.connect() as used:
            driver: Any = (await used.get_raw_connection()).driver_connection
        server = await asyncpg.connect(database_url)
        await server.execute("SELECT pg_terminate_backend($1)", driver.get_server_pid())
        await server.close()
        await until(driver.is_closed)
        assert await db.value("SELECT 1") == 1


async def test_a_database_that_vanished_is_answered_503_and_the_pool_is_good_when_it_is_back(
    settings: Settings,
) -> None:
    async with proxy(settings) as (between, through), running_api(through) as api, asyncio.timeout(PATIENCE_S):
        assert await statuses(api, app.POOL_SIZE) == {201}
        between.freeze()
        with quick_to_notice():
            for _ in range(2):
                assert await statuses(api, app.POOL_SIZE + 1) == {503}
        between.forget()
        await answered(api)
        assert await statuses(api, app.POOL_SIZE) == {201}


async def test_a_read_that_finds_its_connection_dead_is_done_again_on_another(settings: Settings, db: Database) -> None:
    key = await db.commit(api_keys.create, "shop", by="tests")

    async def read(count: int) -> set[int]:
        """Ask for the key and a page, with that many requests at once."""
        headers = {"Authorization": f"Bearer {key}"}
        answers = await asyncio.gather(*[api.get("/clients/", headers=headers) for _ in range(count)])
        return {answer.status_code for answer in answers}

    async with proxy(settings) as (between, through), running_api(through) as api, asyncio.timeout(PATIENCE_S):
        assert await read(app.POOL_SIZE) == {200}
        between.forget()
        assert await read(app.POOL_SIZE) == {200}
        await between.reset()
        assert await read(app.POOL_SIZE) == {200}
        between.freeze()
        with quick_to_notice():
            assert await read(1) == {503}
        between.forget()
        await answered(api)
        assert await read(app.POOL_SIZE) == {200}


@pytest.fixture
async def reads(db: Database) -> AsyncIterator[ReadPool]:
    async with aclosing(ReadPool(db.engine)) as reads:
        yield reads


async def test_a_statement_that_fails_is_not_asked_again_and_costs_no_connection(reads: ReadPool) -> None:
    (before,) = await reads.row("SELECT pg_backend_pid()")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await reads.rows("SELECT 1 / 0")
    assert await reads.row("SELECT pg_backend_pid()") == (before,)


async def test_reads_share_few_connections_however_many_come_at_once_and_give_them_back(database_url: str) -> None:
    async with open_database(database_url, pool_size=MAX_READERS) as db, AsyncExitStack() as stack:
        async with aclosing(ReadPool(db.engine)) as reads:
            found = await asyncio.gather(*[reads.row("SELECT pg_backend_pid(), pg_sleep(0.01)") for _ in range(80)])
            assert len({pid for pid, _ in found}) == reads.idle == MAX_READERS
        for _ in range(MAX_READERS):  # all that the engine has
            await stack.enter_async_context(db.engine.connect())


async def test_a_read_that_is_given_up_leaves_a_pool_that_works(reads: ReadPool) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await reads.rows("SELECT pg_sleep(30)")
    assert await reads.row("SELECT 1") == (1,)


async def test_connections_that_die_as_soon_as_they_are_made_are_trouble_like_any_other(database_url: str) -> None:
    async def die(driver: Any) -> None:  # noqa: ANN401 - asyncpg ships no types
        with suppress(asyncpg.PostgresError):
            await driver.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    def made(connection: AdaptedConnection, _record: object) -> None:
        connection.run_async(die)

    async with open_database(database_url) as db:
        event.listen(db.engine.sync_engine, "connect", made)
        for _ in range(2):
            with pytest.raises(DATABASE_ERRORS):
                await db.value("SELECT 1")


async def test_a_database_that_vanishes_in_the_middle_of_a_request_is_answered_503(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "API_LIMIT_S", 10 * PATIENCE_S)
    async with proxy(settings) as (between, through), running_api(through) as api, asyncio.timeout(PATIENCE_S):
        between.freeze_after = b"INSERT INTO mailing"
        answer = await api.post("/mailings/", json=MAILING)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        between.forget()
        await answered(api)
        assert await statuses(api, app.POOL_SIZE) == {201}


async def test_a_request_that_waits_too_long_for_a_lock_is_answered_503_and_others_are_not_affected(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "API_LIMIT_S", 1)
    held, other = await db.add_mailing(), await db.add_mailing()
    async with running_api(settings) as api, db.engine.begin() as holder, asyncio.timeout(PATIENCE_S):
        await holder.exec_driver_sql(f"SELECT FROM mailing WHERE id = {held} FOR UPDATE")
        waiting = asyncio.create_task(api.post(f"/mailings/{held}/pause"))
        assert (await api.post(f"/mailings/{other}/pause")).status_code == 200
        assert (await api.get(f"/mailings/{held}")).json()["status"] == "running"
        assert (await waiting).status_code == 503


async def test_an_upload_may_take_longer_than_a_transaction_may_stand_still(db: Database, settings: Settings) -> None:
    async def upload() -> AsyncIterator[bytes]:
        yield b"phone,timezone\n79161234567,Europe/Moscow\n"
        await asyncio.sleep(connections.IDLE_IN_TRANSACTION_S + 1)
        yield b"79161234568,Europe/Moscow\n"

    async with running_api(settings) as api:
        answer = await api.post("/clients/import", content=upload(), headers={"Content-Type": "text/csv"})
    assert answer.json()["created"] == 2
    assert await db.value("SELECT count(*) FROM client") == 2

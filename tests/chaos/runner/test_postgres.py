"""What the fault run does to PostgreSQL really happens to it."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from chaos.runner.postgres import Database, database
from mailing.database.connections import DRIVER_ERRORS

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def own() -> AsyncIterator[Database]:
    async with database(fsync=False) as running:
        yield running


async def test_what_was_committed_is_there_at_the_same_address_after_an_immediate_restart(own: Database) -> None:
    async with own.connection() as before:
        await before.execute("INSERT INTO client (phone, operator_code, timezone) VALUES ('79161234567', '916', 'UTC')")
        await asyncio.to_thread(own.restart_immediately)
        with pytest.raises(DRIVER_ERRORS):
            await before.fetchval("SELECT 1")
    async with own.connection() as after:
        assert await after.fetchval("SELECT count(*) FROM client") == 1


async def test_every_connection_but_the_observers_is_terminated(own: Database) -> None:
    product = await asyncpg.connect(own.url)
    async with own.connection() as observer:
        assert await own.terminate_backends() == 1
        assert await observer.fetchval("SELECT 1") == 1
    with pytest.raises(DRIVER_ERRORS):
        await product.fetchval("SELECT 1")


async def test_a_frozen_server_keeps_its_connections_and_answers_when_it_thaws(own: Database) -> None:
    async with own.connection() as held:
        own.freeze()
        answer = asyncio.create_task(held.fetchval("SELECT 1"))
        done, _ = await asyncio.wait({answer}, timeout=0.3)
        own.thaw()
        assert not done
        assert await answer == 1

"""How a plan is written: two slices at a time, and none without the other's leave."""

import asyncio

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from mailing.db import Sessions
from mailing.sending import plan
from mailing.sending.plan import plan_mailing
from rows import add_mailing, run, value

PLANNED = "SELECT array_agg(client_id ORDER BY client_id) FROM message"
EDIT = "UPDATE mailing SET revision = revision + 1"


@pytest.fixture
async def mailing_id(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> int:
    """To six clients, in slices of two."""
    monkeypatch.setattr(plan, "SLICE", 2)
    await run(
        engine,
        """INSERT INTO client (phone, operator_code, timezone)
        SELECT '7916000000' || n, '916', 'UTC' FROM generate_series(1, 6) n""",
    )
    mailing_id = await add_mailing(engine)
    await run(engine, "UPDATE mailing SET planned_revision = 0")
    return mailing_id


async def test_a_slice_that_waits_keeps_its_neighbour_not_waiting_but_edits(
    engine: AsyncEngine, sessions: Sessions, mailing_id: int
) -> None:
    async with engine.connect() as other, asyncio.TaskGroup() as tasks:
        await other.exec_driver_sql("SET LOCAL session_replication_role = replica")  # its triggers would lock counters
        await other.exec_driver_sql(
            f"INSERT INTO message (mailing_id, client_id, due_at, closes_at) VALUES ({mailing_id}, 1, now(), now())"
        )
        tasks.create_task(plan_mailing(sessions, mailing_id))
        await _until(engine, PLANNED, [3, 4])
        edit = tasks.create_task(run(engine, EDIT))
        await _until(engine, "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'", 2)
        assert await value(engine, "SELECT revision FROM mailing") == 1
        assert not edit.done()
        await other.rollback()
    assert await value(engine, "SELECT revision FROM mailing") == 2
    assert await value(engine, PLANNED) == [1, 2, 3, 4], "the edit made the rest of this plan obsolete"


async def test_a_plan_takes_every_slice_to_the_last(engine: AsyncEngine, sessions: Sessions, mailing_id: int) -> None:
    await plan_mailing(sessions, mailing_id)
    assert await value(engine, PLANNED) == [1, 2, 3, 4, 5, 6]
    assert await value(engine, "SELECT planned_revision FROM mailing") == 1


async def _until(engine: AsyncEngine, question: str, answer: object) -> None:
    async with asyncio.timeout(30):
        while await value(engine, question) != answer:  # noqa: ASYNC110 - nobody would set an event
            await asyncio.sleep(0.05)

"""Many jobs by one statement."""

import asyncio

from sqlalchemy.ext.asyncio import AsyncEngine

from mailing.database.engine import Sessions, transaction
from mailing.job_queue.enqueue import Wake, defer, defer_all, ready
from support.query_plans import executed
from support.rows import LOCK_WAITS, comes, run, value

WAKES = [Wake("plan_mailing", {"mailing_id": number}) for number in range(1, 501)]


async def enqueue(sessions: Sessions, wakes: list[Wake]) -> None:
    async with transaction(sessions) as session:
        await defer_all(session, wakes)


async def test_hundreds_of_jobs_are_enqueued_by_one_statement(engine: AsyncEngine, sessions: Sessions) -> None:
    with executed() as ran:
        await enqueue(sessions, WAKES)
    assert len([statement for statement, _ in ran if "procrastinate" in statement]) == 1
    rows = await run(engine, "SELECT task_name, queue_name, args->'mailing_id' FROM procrastinate_jobs ORDER BY id")
    assert rows == [("plan_mailing", "planning", number) for number in range(1, 501)]


async def test_jobs_that_are_enqueued_already_are_left_out(engine: AsyncEngine, sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        await defer(session, "plan_mailing", mailing_id=3)
    await enqueue(sessions, WAKES[:5])
    await enqueue(sessions, WAKES[:6])
    assert await value(engine, "SELECT count(*) FROM procrastinate_jobs") == 6


async def test_a_twin_of_the_same_moment_keeps_none_of_the_others_away(engine: AsyncEngine, sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        await defer(session, "plan_mailing", mailing_id=3)
        many = asyncio.create_task(enqueue(sessions, WAKES))
        await comes(engine, LOCK_WAITS, 1)
    await many
    assert await value(engine, "SELECT count(*) FROM procrastinate_jobs") == 500


async def test_ready_is_what_waits_now(engine: AsyncEngine, sessions: Sessions) -> None:
    await enqueue(sessions, WAKES[:4])
    await run(
        engine, "UPDATE procrastinate_jobs SET scheduled_at = now() + interval '1 h' WHERE args->>'mailing_id' = '2'"
    )
    await run(engine, "UPDATE procrastinate_jobs SET status = 'doing' WHERE args->>'mailing_id' = '3'")
    async with transaction(sessions) as session:
        assert await ready(session, 1, 3) == {("plan_mailing", 1)}

"""Many jobs by one statement."""

import asyncio

from mailing.database.engine import transaction
from mailing.job_queue.enqueue import Wake, defer, defer_all, ready
from support.database import LOCK_WAITS, Database
from support.query_plans import executed

WAKES = [Wake("plan_mailing", {"mailing_id": number}) for number in range(1, 501)]


async def enqueue(db: Database, wakes: list[Wake]) -> None:
    async with transaction(db.sessions) as session:
        await defer_all(session, wakes)


async def test_hundreds_of_jobs_are_enqueued_by_one_statement(db: Database) -> None:
    with executed() as ran:
        await enqueue(db, WAKES)
    assert len([statement for statement, _ in ran if "procrastinate" in statement]) == 1
    rows = await db.run("SELECT task_name, queue_name, args->'mailing_id' FROM procrastinate_jobs ORDER BY id")
    assert rows == [("plan_mailing", "planning", number) for number in range(1, 501)]


async def test_jobs_that_are_enqueued_already_are_left_out(db: Database) -> None:
    async with transaction(db.sessions) as session:
        await defer(session, "plan_mailing", mailing_id=3)
    await enqueue(db, WAKES[:5])
    await enqueue(db, WAKES[:6])
    assert await db.value("SELECT count(*) FROM procrastinate_jobs") == 6


async def test_a_twin_of_the_same_moment_keeps_none_of_the_others_away(db: Database) -> None:
    async with transaction(db.sessions) as session:
        await defer(session, "plan_mailing", mailing_id=3)
        many = asyncio.create_task(enqueue(db, WAKES))
        await db.comes(LOCK_WAITS, 1)
    await many
    assert await db.value("SELECT count(*) FROM procrastinate_jobs") == 500


async def test_ready_is_what_waits_now(db: Database) -> None:
    await enqueue(db, WAKES[:4])
    await db.run("UPDATE procrastinate_jobs SET scheduled_at = now() + interval '1 h' WHERE args->>'mailing_id' = '2'")
    await db.run("UPDATE procrastinate_jobs SET status = 'doing' WHERE args->>'mailing_id' = '3'")
    assert await db.commit(ready, 1, 3) == {("plan_mailing", 1)}

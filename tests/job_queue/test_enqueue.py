import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from mailing.database.engine import transaction
from mailing.job_queue.enqueue import Wake, defer, defer_all, ready
from support.database import LOCK_WAITS, Database
from support.jobs import enqueue, jobs
from support.query_plans import executed

LATER = datetime(2030, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)
WAKES = [Wake("plan_mailing", {"mailing_id": number}) for number in range(1, 501)]


class Rolled(Exception):
    """Ends a transaction without its changes."""


async def test_a_job_goes_with_its_transaction(db: Database) -> None:
    async with db.sessions() as session:
        await defer(session, "plan", mailing_id=1)
        await defer(session, "plan", at=LATER, mailing_id=1)
        await session.rollback()
    assert await jobs(db) == []
    await enqueue(db, at=LATER, mailing_id=1)
    assert await jobs(db) == [("plan", {"mailing_id": 1}, LATER, "todo")]


async def test_a_twin_that_is_queued_makes_a_job_unnecessary(db: Database) -> None:
    for _ in range(2):
        await enqueue(db, mailing_id=1)
        await enqueue(db, mailing_id=2)
        await enqueue(db, "send", mailing_id=1, lane=0)
        await enqueue(db, "send", mailing_id=1, lane=1)
        await enqueue(db, at=LATER, mailing_id=1)
        await enqueue(db, at=LATER + timedelta(milliseconds=700), mailing_id=1)
        await enqueue(db, at=LATER + timedelta(milliseconds=800), mailing_id=1)
    assert [job[:3] for job in await jobs(db)] == [
        ("plan", {"mailing_id": 1}, None),
        ("plan", {"mailing_id": 2}, None),
        ("send", {"lane": 0, "mailing_id": 1}, None),
        ("send", {"lane": 1, "mailing_id": 1}, None),
        ("plan", {"mailing_id": 1}, LATER),
        ("plan", {"mailing_id": 1}, LATER + timedelta(milliseconds=800)),
    ]


async def test_a_twin_under_way_has_looked_already_so_the_job_is_kept(db: Database) -> None:
    await enqueue(db, mailing_id=1)
    await db.run("UPDATE procrastinate_jobs SET status = 'doing'")
    await enqueue(db, mailing_id=1)
    assert [job[3] for job in await jobs(db)] == ["doing", "todo"]


@pytest.mark.parametrize(("first_commits", "survivors"), [(True, [1, 10, 20]), (False, [1, 20])])
async def test_of_two_transactions_at_once_one_job_survives_and_neither_fails(
    db: Database, *, first_commits: bool, survivors: list[int]
) -> None:
    first_deferred, first_may_end = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with transaction(db.sessions) as session:
            await defer(session, "plan", mailing_id=1)
            await defer(session, "plan", mailing_id=10)
            first_deferred.set()
            await first_may_end.wait()
            if not first_commits:
                raise Rolled

    async def second() -> None:
        await first_deferred.wait()
        async with transaction(db.sessions) as session:
            await defer(session, "plan", mailing_id=1)
            await defer(session, "plan", mailing_id=20)

    one, two = asyncio.create_task(first()), asyncio.create_task(second())
    await first_deferred.wait()
    await asyncio.sleep(0.1)
    assert not two.done(), "it waits to know whether the twin stays"
    first_may_end.set()
    assert [type(result) for result in await asyncio.gather(one, two, return_exceptions=True)] == [
        type(None) if first_commits else Rolled,
        type(None),
    ]
    assert sorted(job[1]["mailing_id"] for job in await jobs(db)) == survivors


async def test_many_at_once_leave_one_job(db: Database) -> None:
    await asyncio.gather(*(enqueue(db, mailing_id=1) for _ in range(20)))
    assert len(await jobs(db)) == 1


async def test_hundreds_of_jobs_are_enqueued_by_one_statement(db: Database) -> None:
    with executed() as ran:
        await db.commit(defer_all, WAKES)
    assert len([statement for statement, _ in ran if "procrastinate" in statement]) == 1
    rows = await db.run("SELECT task_name, queue_name, args->'mailing_id' FROM procrastinate_jobs ORDER BY id")
    assert rows == [("plan_mailing", "planning", number) for number in range(1, 501)]


async def test_jobs_that_are_enqueued_already_are_left_out(db: Database) -> None:
    await enqueue(db, "plan_mailing", mailing_id=3)
    await db.commit(defer_all, WAKES[:5])
    await db.commit(defer_all, WAKES[:6])
    assert await db.value("SELECT count(*) FROM procrastinate_jobs") == 6


async def test_a_twin_of_the_same_moment_keeps_none_of_the_others_away(db: Database) -> None:
    async with transaction(db.sessions) as session:
        await defer(session, "plan_mailing", mailing_id=3)
        many = asyncio.create_task(db.commit(defer_all, WAKES))
        await db.comes(LOCK_WAITS, 1)
    await many
    assert await db.value("SELECT count(*) FROM procrastinate_jobs") == 500


async def test_ready_is_what_waits_now(db: Database) -> None:
    await db.commit(defer_all, WAKES[:4])
    await db.run("UPDATE procrastinate_jobs SET scheduled_at = now() + interval '1 h' WHERE args->>'mailing_id' = '2'")
    await db.run("UPDATE procrastinate_jobs SET status = 'doing' WHERE args->>'mailing_id' = '3'")
    assert await db.commit(ready, 1, 3) == {("plan_mailing", 1)}

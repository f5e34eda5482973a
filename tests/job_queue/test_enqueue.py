import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from mailing.database.engine import transaction
from mailing.job_queue.enqueue import defer
from support.database import Database
from support.jobs import enqueue, jobs

LATER = datetime(2030, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)


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

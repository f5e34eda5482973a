"""What workers count reaches the database once, whatever becomes of the database meanwhile."""

import asyncio

from mailing.observability.counters import WorkerCounters, totals
from support.database import LOCK_WAITS, Database


async def counted(db: Database) -> dict[tuple[str, str], float]:
    return await db.commit(totals)


async def test_counts_of_several_workers_at_once_are_added_up(db: Database) -> None:
    workers = [WorkerCounters() for _ in range(5)]
    for worker in workers:
        worker.add("recovered", "leases", value=2)
        worker.add("stale_results")
        worker.add("postponed", "retry", value=0)
    await asyncio.gather(*(worker.flush(db.sessions) for worker in workers))
    await workers[0].flush(db.sessions)  # nothing new
    assert await counted(db) == {("recovered", "leases"): 10, ("stale_results", ""): 5}


async def test_counts_wait_for_the_database_and_go_on_meanwhile(db: Database) -> None:
    tallies = WorkerCounters()
    tallies.add("recovered", "jobs")
    await db.run("ALTER TABLE worker_counter RENAME TO gone")
    await tallies.flush(db.sessions)
    tallies.add("recovered", "jobs")
    await db.run("ALTER TABLE gone RENAME TO worker_counter")
    await tallies.flush(db.sessions)
    assert await counted(db) == {("recovered", "jobs"): 2}


async def test_counts_whose_flush_is_cancelled_as_the_process_ends_are_added_by_the_last_one(db: Database) -> None:
    tallies = WorkerCounters()
    tallies.add("recovered", "jobs")
    async with db.holding("LOCK TABLE worker_counter"):
        flushing = asyncio.create_task(tallies.flush(db.sessions))
        await db.comes(LOCK_WAITS, 1)
        flushing.cancel()
        await asyncio.wait({flushing})
    await tallies.flush(db.sessions)
    assert await counted(db) == {("recovered", "jobs"): 1}

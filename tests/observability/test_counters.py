"""What workers count reaches the database once, whatever becomes of the database meanwhile."""

import asyncio

from sqlalchemy.ext.asyncio import AsyncEngine

from mailing.database.engine import Sessions, transaction
from mailing.observability.counters import WorkerCounters, totals
from support.rows import run


async def counted(sessions: Sessions) -> dict[tuple[str, str], float]:
    async with transaction(sessions) as session:
        return await totals(session)


async def test_counts_of_several_workers_at_once_are_added_up(sessions: Sessions) -> None:
    workers = [WorkerCounters() for _ in range(5)]
    for worker in workers:
        worker.add("recovered", "leases", value=2)
        worker.add("stale_results")
        worker.add("postponed", "retry", value=0)
    await asyncio.gather(*(worker.flush(sessions) for worker in workers))
    await workers[0].flush(sessions)  # nothing new
    assert await counted(sessions) == {("recovered", "leases"): 10, ("stale_results", ""): 5}


async def test_counts_wait_for_the_database_and_go_on_meanwhile(sessions: Sessions, engine: AsyncEngine) -> None:
    tallies = WorkerCounters()
    tallies.add("recovered", "jobs")
    await run(engine, "ALTER TABLE worker_counter RENAME TO gone")
    await tallies.flush(sessions)
    tallies.add("recovered", "jobs")
    await run(engine, "ALTER TABLE gone RENAME TO worker_counter")
    await tallies.flush(sessions)
    assert await counted(sessions) == {("recovered", "jobs"): 2}

"""Enqueue hundreds of jobs in one statement, as the sweep does after one look at all mailings."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.job_queue.enqueue import arguments_of, queue_of, queueing_lock_of

MAX_ATTEMPTS: Final = 5


class Wake(msgspec.Struct, frozen=True):
    """A job to enqueue for now."""

    task: str
    args: dict[str, int]
    priority: int = 0


# In the order given, so that two sessions enqueueing the same jobs in the same order cannot deadlock.
_DEFER_ALL = text("""
    SELECT procrastinate_defer_jobs_v1(ARRAY(
        SELECT ROW(w.queue, w.task, w.priority, NULL, w.queueing_lock, CAST(w.args AS jsonb), NULL)
            ::procrastinate_job_to_defer_v1
        FROM unnest(CAST(:queues AS text[]), CAST(:tasks AS text[]), CAST(:priorities AS int[]),
            CAST(:queueing_locks AS text[]), CAST(:args AS text[]))
            WITH ORDINALITY AS w (queue, task, priority, queueing_lock, args, number)
        WHERE NOT EXISTS (
            SELECT FROM procrastinate_jobs j WHERE j.queueing_lock = w.queueing_lock AND j.status = 'todo')
        ORDER BY w.number))
""")


async def defer_all(session: AsyncSession, wakes: Sequence[Wake]) -> None:
    """Enqueue some hundreds of jobs as `defer` does, in one statement.

    A duplicate enqueued at the same moment makes the statement fail, and the next attempt sees it. After the last
    attempt the jobs are left to the next sweep.
    """
    if not wakes:
        return
    jobs = {
        "queues": [queue_of(wake.task) for wake in wakes],
        "tasks": [wake.task for wake in wakes],
        "priorities": [wake.priority for wake in wakes],
        "queueing_locks": [queueing_lock_of(wake.task, wake.args) for wake in wakes],
        "args": [arguments_of(wake.task, wake.args, later=False) for wake in wakes],
    }
    for _ in range(MAX_ATTEMPTS):
        with suppress(IntegrityError):
            async with session.begin_nested():
                await session.execute(_DEFER_ALL, jobs)
            return


_READY = text("""
    SELECT j.task_name, m.id FROM procrastinate_jobs j, CAST(j.args->>'mailing_id' AS bigint) m (id)
    WHERE j.status = 'todo' AND (j.scheduled_at IS NULL OR j.scheduled_at <= now()) AND m.id BETWEEN :first AND :last
""")


async def ready(session: AsyncSession, first: int, last: int) -> set[tuple[str, int]]:
    """Return task and mailing of each job that is ready to run, for mailings with ids from `first` to `last`."""
    rows = await session.execute(_READY, {"first": first, "last": last})
    return {(task, mailing_id) for task, mailing_id in rows}

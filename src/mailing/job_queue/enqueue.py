"""Enqueue jobs in the transaction that makes them necessary, without duplicates."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.observability import tracing

# Each queue has its own limit, so that none waits for another's jobs (decision 25). COMMON is for tasks without a
# queue, and for jobs enqueued by processes of an older version.
COMMON: Final = "mailing"
QUEUES: Final = {
    "plan_mailing": "planning",
    "send_mailing": "sending",
    "settle_mailing": "settling",
    "sweep": "upkeep",
    "clock": "upkeep",
    "uploads": "upkeep",
    "report": "reporting",
    "import_upload": "importing",
    "audit": "housekeeping",
    "retention": "housekeeping",
}
CONTINUED_PRIORITY: Final = -1  # priority of a mailing that has had a turn: after those that wait for their first
MAX_ATTEMPTS: Final = 5


def queue_of(task: str) -> str:
    return QUEUES.get(task, COMMON)


class Wake(msgspec.Struct, frozen=True):
    """A job to enqueue, for now or for `at`."""

    task: str
    args: Mapping[str, int]
    priority: int = 0
    at: datetime | None = None


async def defer(
    session: AsyncSession, task: str, *, at: datetime | None = None, priority: int = 0, **args: int
) -> None:
    """Enqueue `task` with `args` in the session's transaction. Duplicates for the same second of `at` are skipped."""
    await defer_all(session, [Wake(task, args, priority, at)])


# A queued duplicate makes a job unnecessary. It is looked up for each job, which keeps the common case out of the
# server's error log. In the order given, so that two sessions enqueueing the same jobs in the same order cannot
# deadlock. cardinality, because the ids are not needed and asyncpg would look up the type bigint[] on each connection,
# in 10 ms.
_DEFER = text("""
    SELECT cardinality(procrastinate_defer_jobs_v1(ARRAY(
        SELECT ROW(w.queue, w.task, w.priority, NULL, w.queueing_lock, w.args, w.at)::procrastinate_job_to_defer_v1
        FROM ROWS FROM (jsonb_to_recordset(CAST(:jobs AS jsonb))
                AS (queue text, task text, priority int, queueing_lock text, args jsonb, at timestamptz))
            WITH ORDINALITY AS w (queue, task, priority, queueing_lock, args, at, number)
        WHERE (SELECT true FROM procrastinate_jobs j
               WHERE j.queueing_lock = w.queueing_lock AND j.status = 'todo' LIMIT 1) IS NULL
        ORDER BY w.number)))
""")


async def defer_all(session: AsyncSession, wakes: Sequence[Wake]) -> None:
    """Enqueue some hundreds of jobs as `defer` does, in one statement.

    A duplicate enqueued at the same moment makes the statement fail, and the next attempt sees it. After the last
    attempt the jobs are left to the next sweep.
    """
    if not wakes:
        return
    jobs = msgspec.json.encode([_job(wake) for wake in wakes]).decode()
    for _ in range(MAX_ATTEMPTS):
        with suppress(IntegrityError):
            async with session.begin_nested():
                await session.execute(_DEFER, {"jobs": jobs})
            return


def _job(wake: Wake) -> dict[str, Any]:
    """Return the columns. At most one queued job may hold a queueing lock: by it duplicates are recognized."""
    moment = f"@{int(wake.at.timestamp())}" if wake.at else ""
    queueing_lock = f"{wake.task}:{':'.join(str(value) for value in wake.args.values())}{moment}"
    carried = tracing.carry(wake.task, later=wake.at is not None)
    return {
        "queue": queue_of(wake.task),
        "task": wake.task,
        "priority": wake.priority,
        "queueing_lock": queueing_lock,
        "args": {**wake.args, "trace": carried} if carried else wake.args,
        "at": wake.at,
    }


_READY = text("""
    SELECT j.task_name, m.id FROM procrastinate_jobs j, CAST(j.args->>'mailing_id' AS bigint) m (id)
    WHERE j.status = 'todo' AND (j.scheduled_at IS NULL OR j.scheduled_at <= now()) AND m.id BETWEEN :first AND :last
""")


async def ready(session: AsyncSession, first: int, last: int) -> set[tuple[str, int]]:
    """Return task and mailing of each job that is ready to run, for mailings with ids from `first` to `last`."""
    rows = await session.execute(_READY, {"first": first, "last": last})
    return {(task, mailing_id) for task, mailing_id in rows}

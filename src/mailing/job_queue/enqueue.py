"""Enqueue jobs in the transaction that makes them necessary, without duplicates."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Final

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
CONTINUED: Final = -1  # priority of a mailing that has had a turn: after those that wait for their first


def queue_of(task: str) -> str:
    return QUEUES.get(task, COMMON)


# A queued duplicate makes the job unnecessary. NOT EXISTS keeps the common case out of the server's error log.
# cardinality: nobody needs the ids, and asyncpg would ask each connection what a bigint[] is, in 10 ms.
_DEFER = text("""
    SELECT cardinality(procrastinate_defer_jobs_v1(ARRAY[ROW(
        CAST(:queue AS text), CAST(:task AS text), CAST(:priority AS int), NULL, CAST(:queueing_lock AS text),
        CAST(:args AS jsonb), CAST(:at AS timestamptz))::procrastinate_job_to_defer_v1]))
    WHERE NOT EXISTS (
        SELECT FROM procrastinate_jobs WHERE queueing_lock = :queueing_lock AND status = 'todo')
""")


async def defer(
    session: AsyncSession, task: str, *, at: datetime | None = None, priority: int = 0, **args: int
) -> None:
    """Enqueue `task` with `args` in the session's transaction. Duplicates for the same second of `at` are skipped."""
    moment = f"@{int(at.timestamp())}" if at else ""
    queueing_lock = queueing_lock_of(task, args) + moment
    given = arguments_of(task, args, later=at is not None)
    job = {"queue": queue_of(task), "task": task, "priority": priority, "queueing_lock": queueing_lock}
    job |= {"args": given, "at": at}
    try:
        async with session.begin_nested():
            await session.execute(_DEFER, job)
    except IntegrityError:
        return  # a duplicate was enqueued at the same moment


def queueing_lock_of(task: str, args: Mapping[str, int]) -> str:
    """Return the lock by which duplicates are recognized: at most one queued job may hold it."""
    return f"{task}:{':'.join(str(value) for value in args.values())}"


def arguments_of(task: str, args: Mapping[str, int], *, later: bool) -> str:
    carried = tracing.carry(task, later=later)
    return json.dumps({**args, "trace": carried} if carried else args)

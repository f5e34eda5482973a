"""Enqueue jobs in the transaction that makes them necessary; one of a kind is enough."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.observability import tracing

# Each has a limit of its own, so that none waits for another's jobs (decision 25). COMMON is for what has no queue, and
# for what processes enqueue that began before their update.
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
CONTINUED: Final = -1  # the priority of a mailing that has had a turn: behind those that wait for their first


def queue_of(task: str) -> str:
    return QUEUES.get(task, COMMON)


# A queued twin makes the job unnecessary; NOT EXISTS keeps the usual twin out of the server's error log.
_DEFER = text("""
    SELECT procrastinate_defer_jobs_v1(ARRAY[ROW(
        CAST(:queue AS text), CAST(:task AS text), CAST(:priority AS int), NULL, CAST(:queueing_lock AS text),
        CAST(:args AS jsonb), CAST(:at AS timestamptz))::procrastinate_job_to_defer_v1])
    WHERE NOT EXISTS (
        SELECT FROM procrastinate_jobs WHERE queueing_lock = :queueing_lock AND status = 'todo')
""")


async def defer(
    session: AsyncSession, task: str, *, at: datetime | None = None, priority: int = 0, **args: int
) -> None:
    """Enqueues `task` with `args` as part of the session's transaction; one of a kind per second of `at`."""
    moment = f"@{int(at.timestamp())}" if at else ""
    queueing_lock = twins_of(task, args) + moment
    given = arguments_of(task, args, later=at is not None)
    job = {"queue": queue_of(task), "task": task, "priority": priority, "queueing_lock": queueing_lock}
    job |= {"args": given, "at": at}
    try:
        async with session.begin_nested():
            await session.execute(_DEFER, job)
    except IntegrityError:
        return  # the twin was enqueued in the same moment


def twins_of(task: str, args: Mapping[str, int]) -> str:
    """Of jobs with the same one, one is enough."""
    return f"{task}:{':'.join(str(value) for value in args.values())}"


def arguments_of(task: str, args: Mapping[str, int], *, later: bool) -> str:
    carried = tracing.carry(task, later=later)
    return json.dumps({**args, "trace": carried} if carried else args)

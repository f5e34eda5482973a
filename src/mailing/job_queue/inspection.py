"""Count jobs and workers."""

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from mailing.database.rows import all_as


class JobCount(msgspec.Struct, frozen=True):
    """Jobs of one task in one state: ready, later or doing. `age_s` is how long the oldest ready job has waited."""

    task: str
    state: str
    count: int
    age_s: float


# The table contains only jobs to be done: a few rows for each open mailing.
_COUNTS = text("""
    SELECT j.task_name AS task, s.state, count(*) AS count,
        coalesce(max(extract(epoch FROM now() - coalesce(j.scheduled_at, e.at))) FILTER (WHERE s.state = 'ready'), 0)
            ::float AS age_s
    FROM procrastinate_jobs j
    CROSS JOIN LATERAL (SELECT CASE WHEN j.status = 'doing' THEN 'doing' WHEN j.scheduled_at > now() THEN 'later'
        ELSE 'ready' END AS state) s
    LEFT JOIN LATERAL (SELECT min(at) AS at FROM procrastinate_events WHERE job_id = j.id) e ON s.state = 'ready'
    WHERE j.status IN ('todo', 'doing') GROUP BY 1, 2
""")


async def job_counts(session: AsyncSession) -> list[JobCount]:
    return all_as(JobCount, await session.execute(_COUNTS))


# Index: idx_procrastinate_workers_last_heartbeat. Workers write a heartbeat every 10 s.
_LIVE_WORKERS = text("SELECT count(*) FROM procrastinate_workers WHERE last_heartbeat > now() - interval '30 s'")


async def live_workers(session: AsyncSession) -> int:
    return int((await session.execute(_LIVE_WORKERS)).scalar_one())


_CAN_ENQUEUE = text("""
    SELECT to_regprocedure('procrastinate_defer_jobs_v1(procrastinate_job_to_defer_v1[])') IS NOT NULL
        AND has_table_privilege(to_regclass('procrastinate_jobs'), 'INSERT')
""")


async def can_enqueue(connection: AsyncConnection) -> bool:
    return (await connection.execute(_CAN_ENQUEUE)).scalar_one() is True

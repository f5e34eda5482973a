"""Jobs and workers, counted."""

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession


class Jobs(msgspec.Struct, frozen=True):
    """Of one task in one state: ready, later or doing. `age_s` is how long the oldest ready one has waited."""

    task: str
    state: str
    count: int
    age_s: float


# The table holds what is to be done and nothing else: a few rows for each open mailing.
_STANDING = text("""
    SELECT j.task_name, s.state, count(*), coalesce(max(extract(epoch FROM now() - coalesce(j.scheduled_at, e.at)))
        FILTER (WHERE s.state = 'ready'), 0)::float
    FROM procrastinate_jobs j
    CROSS JOIN LATERAL (SELECT CASE WHEN j.status = 'doing' THEN 'doing' WHEN j.scheduled_at > now() THEN 'later'
        ELSE 'ready' END AS state) s
    LEFT JOIN LATERAL (SELECT min(at) AS at FROM procrastinate_events WHERE job_id = j.id) e ON s.state = 'ready'
    WHERE j.status IN ('todo', 'doing') GROUP BY 1, 2
""")


async def standing(session: AsyncSession) -> list[Jobs]:
    return [Jobs(*row) for row in await session.execute(_STANDING)]


# Index: idx_procrastinate_workers_last_heartbeat. A worker says every 10 s that it is there.
_WORKERS = text("SELECT count(*) FROM procrastinate_workers WHERE last_heartbeat > now() - interval '30 s'")


async def workers(session: AsyncSession) -> int:
    """How many are at work."""
    count: int = (await session.execute(_WORKERS)).scalar_one()
    return count


_TAKES_JOBS = text("""
    SELECT to_regprocedure('procrastinate_defer_jobs_v1(procrastinate_job_to_defer_v1[])') IS NOT NULL
        AND has_table_privilege(to_regclass('procrastinate_jobs'), 'INSERT')
""")


async def takes_jobs(connection: AsyncConnection) -> bool:
    """Whether a job could be enqueued."""
    return (await connection.execute(_TAKES_JOBS)).scalar_one() is True

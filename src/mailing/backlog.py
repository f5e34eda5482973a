"""How the queue stands: work that is due and not begun, and the workers that are there to do it."""

from datetime import datetime

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

MOST_COUNTED = 1000
ALIVE_S = 30  # a worker's heart beats every 10 s


class Backlog(Struct, frozen=True):
    """Jobs wait `since`; `workers` were heard of within ALIVE_S, the newest time `heard_at`."""

    jobs: int
    since: datetime | None
    workers: int
    heard_at: datetime | None


# A job that was to wait until some time is late from then on. Index: procrastinate_jobs_priority_idx_v1, which holds
# the jobs to do: a few for each open mailing. Then the events of each.
_BACKLOG = text(f"""
    SELECT j.jobs, j.since, w.workers, w.heard_at FROM (
        SELECT count(*) AS jobs, min(coalesce(t.scheduled_at, e.at)) AS since FROM (
            SELECT id, scheduled_at FROM procrastinate_jobs
            WHERE status = 'todo' AND coalesce(scheduled_at <= now(), true) LIMIT {MOST_COUNTED}) t
        LEFT JOIN procrastinate_events e ON e.job_id = t.id AND e.type = 'deferred') j, (
        SELECT count(*) FILTER (WHERE last_heartbeat > now() - interval '{ALIVE_S} s') AS workers,
               max(last_heartbeat) AS heard_at FROM procrastinate_workers) w
""")  # noqa: S608 - constants of this module


async def backlog(session: AsyncSession) -> Backlog:
    return Backlog(*(await session.execute(_BACKLOG)).one())

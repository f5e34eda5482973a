"""The queue's table: what is in it, and jobs put there."""

from datetime import datetime
from typing import Any

from mailing.database.engine import transaction
from mailing.job_queue.enqueue import defer
from support.database import Database


async def jobs(db: Database) -> list[tuple[Any, ...]]:
    rows = await db.run("SELECT task_name, args, scheduled_at, status::text FROM procrastinate_jobs ORDER BY id")
    return [tuple(row) for row in rows]


async def enqueue(db: Database, task: str = "plan", *, at: datetime | None = None, **args: int) -> None:
    async with transaction(db.sessions) as session:
        await defer(session, task, at=at, **args)

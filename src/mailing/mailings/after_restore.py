"""Find and pause the mailings whose state a backup may not show, because more happened after it was taken."""

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.rows import all_as
from mailing.job_queue.enqueue import Wake, defer_all

# Messages may have been sent under ids that this database has never assigned: the mailing was due to start after the
# backup, or its audience was being planned.
_UNKNOWN_AUDIENCE = """
    (g.status = 'scheduled' AND g.starts_at <= now()
        OR g.status = 'running' AND g.planned_revision < g.plan_revision)
"""

# Closed mailings too: an operator may have cancelled one since the restore. One row a mailing, read once.
_AFFECTED = text(f"""
    SELECT g.id AS mailing_id, c.pending + c.sending AS unsent, {_UNKNOWN_AUDIENCE} AS to_pause
    FROM mailing g JOIN mailing_counts c ON c.mailing_id = g.id
    WHERE c.pending + c.sending > 0 OR {_UNKNOWN_AUDIENCE}
    ORDER BY g.id
""")  # noqa: S608 - composed from constants of this module


class Affected(msgspec.Struct, frozen=True):
    mailing_id: int
    unsent: int
    to_pause: bool


async def affected(session: AsyncSession) -> list[Affected]:
    return all_as(Affected, await session.execute(_AFFECTED))


# A draft is not sent, so it needs no pause. It may still have been released and sent after the backup.
_STARTED_DRAFTS = text("SELECT id FROM mailing WHERE status = 'draft' AND starts_at <= now() ORDER BY id")


async def started_drafts(session: AsyncSession) -> list[int]:
    """Index: mailing_open."""
    return list((await session.execute(_STARTED_DRAFTS)).scalars())


# scheduled | running → paused. Marked as started, because it may have been. Index: mailing_open.
_PAUSE = text(f"""
    UPDATE mailing g SET status = 'paused', started_at = coalesce(g.started_at, now()), updated_at = now()
    WHERE {_UNKNOWN_AUDIENCE}
    RETURNING g.id
""")  # noqa: S608 - composed from constants of this module


async def pause_unknown_audiences(session: AsyncSession) -> list[int]:
    return sorted((await session.execute(_PAUSE)).scalars())


_STARTED = text("SELECT id FROM mailing WHERE status IN ('running', 'paused') ORDER BY id")


async def wake_started(session: AsyncSession) -> None:
    """Enqueue jobs for mailings to plan, send or finalize. Index: mailing_open."""
    started = (await session.execute(_STARTED)).scalars()
    await defer_all(session, [Wake("plan_mailing", {"mailing_id": mailing_id}) for mailing_id in started])

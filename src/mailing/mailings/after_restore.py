"""Mailings as a backup shows them: what may have become of them after it."""

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

# Messages may have gone out under ids that this database never knew: the mailing should have begun since the backup, or
# its audience was just being written down.
_UNKNOWN_AUDIENCE = """
    (g.status = 'scheduled' AND g.starts_at <= now()
        OR g.status = 'running' AND g.planned_revision < g.plan_revision)
"""

# Closed ones too: somebody may have cancelled one since the restore. One row a mailing, read once.
_AFFECTED = text(f"""
    SELECT g.id, c.pending + c.sending, {_UNKNOWN_AUDIENCE}
    FROM mailing g JOIN mailing_counts c ON c.mailing_id = g.id
    WHERE c.pending + c.sending > 0 OR {_UNKNOWN_AUDIENCE}
    ORDER BY g.id
""")  # noqa: S608 - composed from constants of this module


class Affected(msgspec.Struct, frozen=True):
    mailing_id: int
    unsent: int
    to_pause: bool


async def affected(session: AsyncSession) -> list[Affected]:
    return [Affected(*row) for row in await session.execute(_AFFECTED)]


# A draft is sent by nobody, so it needs no pause; it may have been released and sent since the backup all the same.
_STARTED_DRAFTS = text("SELECT id FROM mailing WHERE status = 'draft' AND starts_at <= now() ORDER BY id")


async def started_drafts(session: AsyncSession) -> list[int]:
    """Index: mailing_open."""
    return list((await session.execute(_STARTED_DRAFTS)).scalars())


# scheduled | running → paused. It counts as launched: it may have been. Index: mailing_open.
_PAUSE = text(f"""
    UPDATE mailing g SET status = 'paused', started_at = coalesce(g.started_at, now()), updated_at = now()
    WHERE {_UNKNOWN_AUDIENCE}
    RETURNING g.id
""")  # noqa: S608 - composed from constants of this module


async def pause_unknown_audiences(session: AsyncSession) -> list[int]:
    return sorted((await session.execute(_PAUSE)).scalars())


_LAUNCHED = text("SELECT id FROM mailing WHERE status IN ('running', 'paused') ORDER BY id")


async def launched(session: AsyncSession) -> list[int]:
    """Those with something to plan, send or settle. Index: mailing_open."""
    return list((await session.execute(_LAUNCHED)).scalars())

"""Mailings as lines for people: what each says, how far it is, how fast it goes. Only counters are read."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.mailings.states import MailingStatus
from mailing.statistics.repository import COUNTED
from mailing.statistics.schemas import Counts

MAX_OPEN = 50
EXCERPT_LENGTH = 80  # characters of the text, enough to know the mailing by


class MailingSummary(Struct, frozen=True):
    id: int
    beginning: str
    status: MailingStatus
    starts_at: datetime
    ends_at: datetime
    counts: Counts


_LINES = f"""
    SELECT {", ".join(f"c.{name}" for name in COUNTED)},
        g.id, left(g.text, {EXCERPT_LENGTH}), g.status, g.starts_at, g.ends_at
    FROM mailing g JOIN mailing_counts c ON c.mailing_id = g.id WHERE g.deleted_at IS NULL
        AND g.test_of_mailing_id IS NULL
"""  # noqa: S608 - composed from constants

# Those under way, then those that wait for somebody, then those to come. Index: mailing_open.
_OPEN = text(f"""
    {_LINES} AND g.status IN ('draft', 'scheduled', 'running', 'paused')
    ORDER BY array_position(ARRAY['running', 'paused', 'draft', 'scheduled'], g.status), g.starts_at, g.id
    LIMIT {MAX_OPEN}
""")

# The primary key, backwards.
_NEWEST = text(f"{_LINES} AND g.id < :before ORDER BY g.id DESC LIMIT :count")


async def open_mailings(session: AsyncSession) -> list[MailingSummary]:
    """No more than MOST_OPEN."""
    return [_line(row) for row in await session.execute(_OPEN)]


async def newest_mailings(session: AsyncSession, *, before: int, limit: int) -> list[MailingSummary]:
    """One more than `limit`, if there is one; newest first."""
    return [_line(row) for row in await session.execute(_NEWEST, {"before": before, "count": limit + 1})]


def _line(row: Row[*tuple[Any, ...]]) -> MailingSummary:
    *counts, mailing_id, beginning, status, starts_at, ends_at = row
    return MailingSummary(mailing_id, beginning, MailingStatus(status), starts_at, ends_at, Counts(*counts))

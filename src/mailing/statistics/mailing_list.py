"""Lists of mailings for people: beginning of the text, status, progress. Only counters are read."""

from datetime import datetime

from msgspec import convert
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.mailings.counts import COLUMNS, Counts
from mailing.mailings.states import MailingStatus

MAX_OPEN = 50
EXCERPT_LENGTH = 100  # characters of the text, enough to recognise the mailing; a page may cut it further


class MailingSummary(Counts):
    """A mailing and its counts."""

    id: int
    excerpt: str
    status: MailingStatus
    starts_at: datetime
    ends_at: datetime


_LINES = f"""
    SELECT {COLUMNS},
        g.id, left(g.text, {EXCERPT_LENGTH}) AS excerpt, g.status, g.starts_at, g.ends_at
    FROM mailing g JOIN mailing_counts c ON c.mailing_id = g.id WHERE g.deleted_at IS NULL
        AND g.test_of_mailing_id IS NULL
"""  # noqa: S608 - composed from constants

# Running mailings, then those that wait for a user, then scheduled ones. Index: mailing_open.
_OPEN = text(f"""
    {_LINES} AND g.status IN ('draft', 'scheduled', 'running', 'paused')
    ORDER BY array_position(ARRAY['running', 'paused', 'draft', 'scheduled'], g.status), g.starts_at, g.id
    LIMIT {MAX_OPEN}
""")

# The primary key, backwards; for a rare word many mailings are read, but no messages. In the C locale, as in the
# embedded database, PostgreSQL changes the case of ASCII letters only: hence `spellings`.
_NEWEST = text(f"""
    {_LINES} AND g.id < :before AND (CAST(:status AS text) IS NULL OR g.status = :status)
      AND (CAST(:words AS text) = '' OR g.id::text = :words OR strpos(lower(g.text), lower(:words)) > 0
        OR EXISTS (SELECT FROM unnest(CAST(:spellings AS text[])) AS s (words) WHERE strpos(g.text, s.words) > 0))
    ORDER BY g.id DESC LIMIT :count
""")


async def open_mailings(session: AsyncSession) -> list[MailingSummary]:
    return convert((await session.execute(_OPEN)).mappings().all(), list[MailingSummary])


async def newest_mailings(
    session: AsyncSession, *, before: int, limit: int, words: str = "", status: MailingStatus | None = None
) -> list[MailingSummary]:
    """List up to `limit` mailings and one more, newest first. `words` are searched in the text, or are the id."""
    asked = {"words": words, "spellings": spellings(words), "status": status, "before": before, "count": limit + 1}
    rows = await session.execute(_NEWEST, asked)
    return convert(rows.mappings().all(), list[MailingSummary])


def spellings(words: str) -> list[str]:
    return [words.lower(), words.upper(), words.capitalize()]

"""Statistics, read from the counters: one row a mailing. No message is scanned; test sends are left out."""

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.errors import NotFound
from mailing.mailings.counts import COLUMNS
from mailing.mailings.states import MailingStatus
from mailing.statistics.schemas import MailingLine

_LINES = text(f"""
    SELECT {COLUMNS}, g.id AS mailing_id, g.status, g.started_at IS NOT NULL AS launched
    FROM mailing g JOIN mailing_counts c ON c.mailing_id = g.id
    WHERE g.id > :cursor AND g.deleted_at IS NULL AND g.test_of_mailing_id IS NULL ORDER BY g.id LIMIT :count
""")  # noqa: S608 - composed from constants of this module

_LINE = text(f"""
    SELECT {COLUMNS}, g.id AS mailing_id, g.status, g.started_at IS NOT NULL AS launched
    FROM mailing g JOIN mailing_counts c ON c.mailing_id = g.id
    WHERE g.id = :id AND g.deleted_at IS NULL AND g.test_of_mailing_id IS NULL
""")  # noqa: S608 - composed from constants of this module


async def mailing_lines(session: AsyncSession, *, cursor: int, limit: int) -> list[MailingLine]:
    """List up to `limit` mailings and one more."""
    rows = await session.execute(_LINES, {"cursor": cursor, "count": limit + 1})
    return [_line(row) for row in rows.mappings()]


async def mailing_line(session: AsyncSession, mailing_id: int) -> MailingLine:
    """Read one mailing: two rows by primary key."""
    row = (await session.execute(_LINE, {"id": mailing_id})).mappings().first()
    if row is None:
        raise NotFound(f"There is no mailing {mailing_id}.")
    return _line(row)


def _line(row: RowMapping) -> MailingLine:
    return MailingLine(**dict(row) | {"status": MailingStatus(row["status"])})

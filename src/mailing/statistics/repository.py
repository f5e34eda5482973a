"""Statistics, read from the counters: one row a mailing. No message is scanned; test sends are left out."""

from msgspec import Struct, convert
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.rows import all_as
from mailing.errors import NotFound
from mailing.mailings.counts import COLUMNS
from mailing.statistics.schemas import DeliveryCounts, MailingLine

MAX_REASONED = 10_000  # undelivered messages
MAX_REASONS = 10


class UndeliveredReason(Struct, frozen=True):
    code: str
    messages: int


_SELECT = f"""
    SELECT {COLUMNS}, g.id AS mailing_id, g.status, g.started_at IS NOT NULL AS launched,
        coalesce(r.delivered, 0) AS delivered, coalesce(r.undelivered, 0) AS undelivered
    FROM mailing g JOIN mailing_counts c ON c.mailing_id = g.id LEFT JOIN receipt_counts r ON r.mailing_id = g.id
    WHERE g.deleted_at IS NULL AND g.test_of_mailing_id IS NULL
"""  # noqa: S608 - composed from a constant
_LINES = text(f"{_SELECT} AND g.id > :cursor ORDER BY g.id LIMIT :count")
_LINE = text(f"{_SELECT} AND g.id = :id")


async def mailing_lines(session: AsyncSession, *, cursor: int, limit: int, receipts: bool = False) -> list[MailingLine]:
    """List up to `limit` mailings and one more; with `receipts`, each with its `delivery`."""
    rows = await session.execute(_LINES, {"cursor": cursor, "count": limit + 1})
    return [_line(row, receipts=receipts) for row in rows.mappings()]


async def mailing_line(session: AsyncSession, mailing_id: int, *, receipts: bool = False) -> MailingLine:
    """Read one mailing: three rows by primary key."""
    row = (await session.execute(_LINE, {"id": mailing_id})).mappings().first()
    if row is None:
        raise NotFound("There is no mailing %(id)s.", id=mailing_id)
    return _line(row, receipts=receipts)


def _line(row: RowMapping, *, receipts: bool) -> MailingLine:
    delivery = delivery_of(row["sent"], row["delivered"], row["undelivered"]) if receipts else None
    return convert({**row, "delivery": delivery}, MailingLine)


def delivery_of(sent: int, delivered: int, undelivered: int) -> DeliveryCounts:
    """Count what is awaited: not below 0, because a receipt may come before our own record of the call."""
    return DeliveryCounts(delivered, undelivered, max(sent - delivered - undelivered, 0))


# Index: receipt_listed. The newest MAX_REASONED of a mailing are read: 5 ms.
_REASONS = text(f"""
    SELECT coalesce(code, '') AS code, count(*) AS messages FROM (
        SELECT code FROM receipt WHERE mailing_id = :mailing_id AND state = 2
        ORDER BY message_id DESC LIMIT {MAX_REASONED}
    ) newest GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {MAX_REASONS}
""")  # noqa: S608 - constants of this module


async def undelivered_reasons(session: AsyncSession, mailing_id: int) -> list[UndeliveredReason]:
    """List the provider's codes of undelivered messages, most frequent first; an empty one where it gave none."""
    return all_as(UndeliveredReason, await session.execute(_REASONS, {"mailing_id": mailing_id}))

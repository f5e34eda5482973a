"""Statistics are read from the counters, one row a mailing; no message is counted here, and no test."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.errors import NotFound
from mailing.mailings.states import MailingStatus
from mailing.statistics.schemas import Counts, MailingLine

COUNTED = ("planned", "sent", "pending", "sending", "failed", "cancelled", "expired", "unknown")

_TOTALS = text(f"""
    SELECT {", ".join(f"coalesce(sum(c.{name}), 0)::bigint" for name in COUNTED)},
        count(*) FILTER (WHERE g.deleted_at IS NULL)
    FROM mailing_counts c JOIN mailing g ON g.id = c.mailing_id WHERE g.test_of_mailing_id IS NULL
""")  # noqa: S608 - composed from constants of this module

_LINES = text(f"""
    SELECT {", ".join(f"c.{name}" for name in COUNTED)}, g.id, g.status, g.started_at IS NOT NULL
    FROM mailing g JOIN mailing_counts c ON c.mailing_id = g.id
    WHERE g.id > :cursor AND g.deleted_at IS NULL AND g.test_of_mailing_id IS NULL ORDER BY g.id LIMIT :count
""")  # noqa: S608 - composed from constants of this module

_LINE = text(f"""
    SELECT {", ".join(f"c.{name}" for name in COUNTED)}, g.id, g.status, g.started_at IS NOT NULL
    FROM mailing g JOIN mailing_counts c ON c.mailing_id = g.id
    WHERE g.id = :id AND g.deleted_at IS NULL AND g.test_of_mailing_id IS NULL
""")  # noqa: S608 - composed from constants of this module


async def totals(session: AsyncSession) -> tuple[Counts, int]:
    """The counts over all mailings, and how many mailings there are. Grows with mailings, not with messages."""
    *counts, mailings = (await session.execute(_TOTALS)).one()
    return Counts(*counts), mailings


async def mailing_lines(session: AsyncSession, *, cursor: int, limit: int) -> list[MailingLine]:
    """One row more than `limit`, if there is one."""
    return [_line(*row) for row in await session.execute(_LINES, {"cursor": cursor, "count": limit + 1})]


async def mailing_line(session: AsyncSession, mailing_id: int) -> MailingLine:
    """Two rows by primary key."""
    row = (await session.execute(_LINE, {"id": mailing_id})).first()
    if row is None:
        raise NotFound(f"There is no mailing {mailing_id}.")
    return _line(*row)


def _line(*row: object) -> MailingLine:
    *counts, mailing_id, status, launched = row
    named = dict(zip(COUNTED, counts, strict=True))
    return MailingLine(**named, mailing_id=mailing_id, status=MailingStatus(str(status)), launched=launched)  # type: ignore[arg-type]

"""Messages by status, read from the counters: one row a mailing, kept exact by triggers."""

from msgspec import Struct, convert
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


class Counts(Struct):
    """Messages by status; `planned` is their sum."""

    planned: int
    sent: int
    pending: int
    sending: int
    failed: int
    cancelled: int
    expired: int
    unknown: int


class Totals(Struct, frozen=True):
    """`mailings` counts those not deleted; `messages` includes the messages of deleted mailings."""

    mailings: int
    messages: Counts


COLUMNS = ", ".join(f"c.{name}" for name in Counts.__struct_fields__)
_SUMS = ", ".join(f"coalesce(sum(c.{name}), 0)::bigint AS {name}" for name in Counts.__struct_fields__)

# One row a mailing; test sends are left out.
_TOTALS = text(f"""
    SELECT {_SUMS}, count(*) FILTER (WHERE g.deleted_at IS NULL) AS mailings
    FROM mailing_counts c JOIN mailing g ON g.id = c.mailing_id WHERE g.test_of_mailing_id IS NULL
""")  # noqa: S608 - composed from constants of this module


async def totals(session: AsyncSession) -> Totals:
    """Sum up all mailings. The cost grows with mailings, not with messages."""
    row = (await session.execute(_TOTALS)).mappings().one()
    return Totals(row["mailings"], convert(row, Counts))

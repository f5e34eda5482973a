"""Which days were reported when, for people to read."""

from datetime import date, datetime
from typing import Literal

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


class ReportedDay(Struct, frozen=True):
    """`waiting`: for its time, or after a failure for the next try at `next_try_at`; `refused`: the same, but the mail
    server said that it will not take it. `reason` is of the newest try; with `sent`, who will never get it.
    """

    day: date
    state: Literal["sent", "sending", "waiting", "refused"]
    tries: int
    sent_at: datetime | None
    next_try_at: datetime | None
    reason: str | None


# Index: the primary key, backwards.
_NEWEST = text("""
    SELECT day,
        CASE WHEN sent_at IS NOT NULL THEN 'sent' WHEN lease_until > now() THEN 'sending'
             WHEN refused THEN 'refused' ELSE 'waiting' END,
        tries, sent_at, CASE WHEN sent_at IS NULL THEN due_at END, last_error
    FROM report ORDER BY day DESC LIMIT :count
""")


async def last_reports(session: AsyncSession, *, count: int = 31) -> list[ReportedDay]:
    """The newest first; a day has a line from its end on, if the service had a recipient by then."""
    return [ReportedDay(*row) for row in await session.execute(_NEWEST, {"count": count})]

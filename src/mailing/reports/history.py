"""Which days were reported when, for people to read."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any, Literal

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.reports.planning import period_of
from mailing.reports.schedule import CATCH_UP, Day, day_of
from mailing.settings import Settings
from mailing.timezones import zone_named


class ReportedDay(Struct, frozen=True):
    """`waiting`: for its time, or after a failure for the next try at `next_try_at`; `refused`: the same, but the mail
    server said that it will not take it; `given_up`: it was not sent until `tried_until`, when it is too old to be of
    use. `reason` is of the newest try; with `sent`, who will never get it.
    """

    day: date
    state: Literal["sent", "sending", "waiting", "refused", "given_up"]
    attempts: int
    sent_at: datetime | None
    next_try_at: datetime | None
    tried_until: datetime
    reason: str | None
    delivered_to: list[str]
    period: Day


_ROW = """
    SELECT day,
        CASE WHEN sent_at IS NOT NULL THEN 'sent' WHEN lease_until > :now THEN 'sending'
             WHEN permanently_failed THEN 'refused' ELSE 'waiting' END,
        attempts, sent_at, CASE WHEN sent_at IS NULL THEN due_at END, last_error, delivered_to,
        day, zone, starts, ends
    FROM report"""

# Index, of both: the primary key, in the first one backwards.
_NEWEST = text(f"{_ROW} ORDER BY day DESC LIMIT :count")
_OF_DAY = text(f"{_ROW} WHERE day = :day")


async def last_reports(
    session: AsyncSession, settings: Settings, *, now: datetime, count: int = CATCH_UP
) -> list[ReportedDay]:
    """The newest first; a day has a line from its end on, if the service had a recipient by then."""
    rows = await session.execute(_NEWEST, {"now": now, "count": count})
    return [_reported(row, settings, now) for row in rows]


async def report_of(session: AsyncSession, settings: Settings, day: date, *, now: datetime) -> ReportedDay | None:
    row = (await session.execute(_OF_DAY, {"now": now, "day": day})).one_or_none()
    return _reported(row, settings, now) if row else None


def _reported(row: Sequence[Any], settings: Settings, now: datetime) -> ReportedDay:
    day, state, attempts, sent_at, next_try_at, reason, delivered_to, *period = row
    zone = zone_named(settings.report_timezone)
    until = day_of(day + timedelta(days=CATCH_UP), zone).ends
    if state in ("waiting", "refused") and until <= now:
        state, next_try_at = "given_up", None
    return ReportedDay(day, state, attempts, sent_at, next_try_at, until, reason, delivered_to, period_of(period, zone))

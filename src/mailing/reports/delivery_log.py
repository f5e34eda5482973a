"""The delivery log of the reports, for operators: each day's report, the last one sent, the next one due."""

from datetime import date, datetime, timedelta
from typing import Literal

from msgspec import Struct, convert
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.rows import all_as
from mailing.reports import planning
from mailing.reports.planning import period_of
from mailing.reports.schedule import MAX_CATCH_UP_DAYS, Day, day_of, due_at, oldest_wanted
from mailing.settings import Settings, report_clock
from mailing.timezones import zone_named


class ReportedDay(Struct, frozen=True):
    """A day's report and its delivery.

    `waiting`: until its time, or after a failure until `next_try_at`. `refused`: the same, but the mail server has
    rejected the mail permanently. `given_up`: it was not sent before `tried_until`, and is too old now. `reason` is the
    last attempt's; with `sent` it names the recipients that were rejected.
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
             WHEN permanently_failed THEN 'refused' ELSE 'waiting' END AS state,
        attempts, sent_at, CASE WHEN sent_at IS NULL THEN due_at END AS next_try_at, last_error AS reason, delivered_to,
        zone, starts, ends
    FROM report"""

# Index, of both: the primary key, in the first one backwards.
_NEWEST = text(f"{_ROW} ORDER BY day DESC LIMIT :count")
_OF_DAY = text(f"{_ROW} WHERE day = :day")


async def last_reports(
    session: AsyncSession, settings: Settings, *, now: datetime, count: int = MAX_CATCH_UP_DAYS
) -> list[ReportedDay]:
    """List reports, newest first. A day is listed from its end on, if a recipient was set by then."""
    rows = await session.execute(_NEWEST, {"now": now, "count": count})
    return [_reported(row, settings, now) for row in rows.mappings()]


async def report_of(session: AsyncSession, settings: Settings, day: date, *, now: datetime) -> ReportedDay | None:
    row = (await session.execute(_OF_DAY, {"now": now, "day": day})).mappings().one_or_none()
    return _reported(row, settings, now) if row else None


def _reported(row: RowMapping, settings: Settings, now: datetime) -> ReportedDay:
    zone = zone_named(settings.report_timezone)
    until = day_of(row["day"] + timedelta(days=MAX_CATCH_UP_DAYS), zone).ends
    fields = {**row, "tried_until": until, "period": period_of(row)}
    if row["state"] in ("waiting", "refused") and until <= now:
        fields |= {"state": "given_up", "next_try_at": None}
    return convert(fields, ReportedDay)


# The primary key, backwards: the newest rows.
_LAST_SENT_AT = text("SELECT sent_at FROM report WHERE sent_at IS NOT NULL ORDER BY day DESC LIMIT 1")


async def last_sent_at(session: AsyncSession) -> datetime | None:
    found: datetime | None = await session.scalar(_LAST_SENT_AT)
    return found


# At most MAX_CATCH_UP_DAYS rows of the primary key.
_MISSING = text("""
    SELECT day, due_at, attempts, last_error, attempts > 0 AND (lease_until IS NULL OR attempts > 1) AS failed
    FROM report WHERE day >= :oldest AND sent_at IS NULL ORDER BY day
""")


class PendingReport(Struct, frozen=True):
    """A report that is not sent. `last_error` is the failure of the last attempt; `failed`: an attempt has ended."""

    day: date
    due_at: datetime
    attempts: int = 0
    last_error: str | None = None
    failed: bool = False


async def next_report(session: AsyncSession, settings: Settings, *, now: datetime) -> PendingReport | None:
    """Return the oldest report that is missing, or that of the current day; None without recipients."""
    if not settings.report_to:
        return None
    if missing := await _missing(session, settings, now):
        return missing[0]
    running = (await planning.calendar(session, settings, now=now)).running()
    due = due_at(running.ends, zone_named(settings.report_timezone), report_clock(settings))
    return PendingReport(running.date, due)


async def _missing(session: AsyncSession, settings: Settings, now: datetime) -> list[PendingReport]:
    oldest = oldest_wanted(now, zone_named(settings.report_timezone))
    return all_as(PendingReport, await session.execute(_MISSING, {"oldest": oldest}))


async def failing_reports(session: AsyncSession, settings: Settings, *, now: datetime) -> list[PendingReport]:
    """List reports that failed and will be retried, oldest first."""
    return [report for report in await _missing(session, settings, now) if report.failed]

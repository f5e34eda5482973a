"""The row of each report: made when its period is over, with the period as it is then.

The rows tile the time since the first report. A worker makes them under a lock, each from where the last one ended, so
neither a change of the zone nor two workers with different zones leave a gap or count an hour twice; the constraint
`report_once` would refuse it.
"""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from itertools import takewhile
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.errors import FieldError, Invalid
from mailing.reports.schedule import MAX_CATCH_UP_DAYS, Day, day_of, days_after, due_at, newest_over, oldest_wanted
from mailing.settings import Settings, report_clock
from mailing.timezones import zone_named

_A_DAY = timedelta(days=1)
_ROWS_READ = 2 * MAX_CATCH_UP_DAYS
_FIRST_YEAR = 1970


class PlannedReport(Struct, frozen=True):
    """`stored`: its period stands in the row; an earlier version left it out."""

    day: Day
    stored: bool
    due_at: datetime
    untried: bool


class Calendar(Struct, frozen=True):
    """The newest rows, and how the periods go on after them."""

    rows: Sequence[PlannedReport]
    zone: ZoneInfo
    now: datetime

    @property
    def last(self) -> Day:
        """The newest that has a row and is over. Before the first report: the day before the one it is about."""
        over = [row.day for row in self.rows if row.day.ends <= self.now]
        if over:
            return max(over, key=lambda day: day.ends)
        return day_of(newest_over(self.now, self.zone) - _A_DAY, self.zone)

    def missing(self) -> list[Day]:
        """Those that are over and have no row, oldest first; the ones that are too old are left out."""
        oldest = oldest_wanted(self.now, self.zone)
        over = takewhile(lambda day: day.ends <= self.now, days_after(self.last, self.zone))
        return [day for day in over if day.date >= oldest]

    def newest(self) -> Day:
        """The newest that is over."""
        return (self.missing() or [self.last])[-1]

    def running(self) -> Day:
        """The one that is not over."""
        return next(day for day in days_after(self.last, self.zone) if day.ends > self.now)


# Index: the primary key, backwards. A clock that was wrong once may have left rows of the future.
_NEWEST_ROWS = text("""
    SELECT day, zone, starts, ends, due_at, attempts = 0 AND sent_at IS NULL FROM report
    WHERE day <= :upto ORDER BY day DESC LIMIT :count
""")


async def calendar(session: AsyncSession, settings: Settings, *, now: datetime) -> Calendar:
    zone = zone_named(settings.report_timezone)
    upto = newest_over(now, zone) + 3 * _A_DAY  # no zone is further ahead, nor dated further on
    rows = await session.execute(_NEWEST_ROWS, {"upto": upto, "count": _ROWS_READ})
    read = [PlannedReport(period_of(row[:4], zone), row.starts is not None, *row[4:]) for row in rows]
    return Calendar(read, zone, now)


def period_of(row: Sequence[Any], zone: ZoneInfo) -> Day:
    """Of `day, zone, starts, ends`; `zone` is that of the settings, for a row of an earlier version."""
    return Day(*row) if row[1] else day_of(row[0], zone)


_LOCK = text("SELECT pg_advisory_xact_lock(7233152)")


async def plan(session: AsyncSession, settings: Settings, *, now: datetime) -> None:
    """Adds what is over and has no row; a report that was never tried follows a change of the settings' time."""
    known = await calendar(session, settings, now=now)
    if known.missing() or not all(row.stored for row in known.rows):
        await session.execute(_LOCK)
        known = await calendar(session, settings, now=now)
        await _take_over(session, [row.day for row in known.rows if not row.stored])
        await _add(session, known, settings)
    await _let_follow(session, known, settings)


# A row of an earlier version is taken for the day of the zone that is set.
_TAKE_OVER = text("""
    UPDATE report SET zone = given.zone, starts = given.starts, ends = given.ends
    FROM unnest(CAST(:days AS date[]), CAST(:zones AS text[]), CAST(:starts AS timestamptz[]),
                CAST(:ends AS timestamptz[])) AS given (day, zone, starts, ends)
    WHERE report.day = given.day AND report.starts IS NULL AND given.starts < given.ends AND NOT EXISTS (
        SELECT FROM report other WHERE tstzrange(other.starts, other.ends) && tstzrange(given.starts, given.ends)
            AND other.starts IS NOT NULL)
""")


async def _take_over(session: AsyncSession, days: Sequence[Day]) -> None:
    if days:
        await session.execute(_TAKE_OVER, _columns(days))


_ADD = text("""
    INSERT INTO report (day, zone, starts, ends, due_at)
    SELECT * FROM unnest(CAST(:days AS date[]), CAST(:zones AS text[]), CAST(:starts AS timestamptz[]),
                         CAST(:ends AS timestamptz[]), CAST(:due AS timestamptz[]))
    ON CONFLICT DO NOTHING
""")


async def _add(session: AsyncSession, known: Calendar, settings: Settings) -> None:
    days = known.missing()
    if days:
        due = [due_at(day.ends, known.zone, report_clock(settings)) for day in days]
        await session.execute(_ADD, {**_columns(days), "due": due})


def _columns(days: Sequence[Day]) -> dict[str, list[Any]]:
    return {
        "days": [day.date for day in days],
        "zones": [day.zone for day in days],
        "starts": [day.starts for day in days],
        "ends": [day.ends for day in days],
    }


# Index: the primary key. A row that somebody has locked keeps its time for now.
_FOLLOW = text("""
    UPDATE report SET due_at = given.due_at
    FROM unnest(CAST(:days AS date[]), CAST(:due AS timestamptz[])) AS given (day, due_at)
    WHERE report.day = given.day AND report.day IN (
        SELECT day FROM report WHERE day = ANY(:days) AND attempts = 0 AND sent_at IS NULL FOR UPDATE SKIP LOCKED)
""")


async def _let_follow(session: AsyncSession, known: Calendar, settings: Settings) -> None:
    changed = list(_changed(known, settings))
    if changed:
        days, due = zip(*changed, strict=True)
        await session.execute(_FOLLOW, {"days": list(days), "due": list(due)})


def _changed(known: Calendar, settings: Settings) -> Iterator[tuple[date, datetime]]:
    for row in known.rows:
        if row.untried and row.day.date >= oldest_wanted(known.now, known.zone):
            due = due_at(row.day.ends, known.zone, report_clock(settings))
            if due != row.due_at:
                yield row.day.date, due


# Index: the primary key.
_ON = text("SELECT day, zone, starts, ends FROM report WHERE day = :day")


async def day_on(session: AsyncSession, settings: Settings, day: date, *, now: datetime) -> Day:
    """What the report of `day` tells about, with a row or without. Raises Invalid where there is no such report."""
    known = await calendar(session, settings, now=now)
    running = known.running()
    if day > running.date:
        raise Invalid(FieldError("date", f"{day} has not begun yet"))
    if day.year < _FIRST_YEAR:
        raise Invalid(FieldError("date", f"{day} is long before the first mailing"))
    row = (await session.execute(_ON, {"day": day})).one_or_none()
    if row:
        return period_of(row, known.zone)
    to_come = {each.date: each for each in (*known.missing(), running)}
    return to_come.get(day) or await _between(session, day_of(day, known.zone))


# A sequential scan: one row for each day of the service.
_BESIDE = text("""
    SELECT max(ends) FILTER (WHERE starts <= :starts), min(starts) FILTER (WHERE starts > :starts)
    FROM report WHERE tstzrange(starts, ends) && tstzrange(:starts, :ends) AND starts IS NOT NULL
""")


async def _between(session: AsyncSession, day: Day) -> Day:
    """What no other report tells about: a day before the first report, or in an outage that nobody made up for."""
    told_until, told_from = (await session.execute(_BESIDE, {"starts": day.starts, "ends": day.ends})).one()
    starts, ends = max(told_until or day.starts, day.starts), min(told_from or day.ends, day.ends)
    if starts >= ends:
        raise Invalid(FieldError("date", f"{day.date} has no report of its own: its neighbours tell about its hours"))
    return Day(day.date, day.zone, starts, ends)

"""The rows of reports: each is created when its period is over, with the period as it is then.

The rows cover the time since the first report without gaps or overlaps. A worker creates them under a lock, each from
the end of the last one, so neither a change of the time zone nor two workers with different zones leave a gap or count
an hour twice; the constraint `report_once` would reject it.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.errors import FieldError, Invalid
from mailing.reports.schedule import MAX_CATCH_UP_DAYS, Day, day_of, days_after, due_at, newest_over, oldest_wanted
from mailing.settings import Settings, report_clock
from mailing.timezones import zone_named

_A_DAY = timedelta(days=1)
_ROWS_READ = 2 * MAX_CATCH_UP_DAYS
_FIRST_YEAR = 1970


class PlannedReport(Struct, frozen=True):
    day: Day
    due_at: datetime
    untried: bool


class Calendar(Struct, frozen=True):
    """The newest rows, and the periods that follow them."""

    rows: Sequence[PlannedReport]
    zone: ZoneInfo
    now: datetime

    @property
    def last(self) -> Day:
        """Return the newest period with a row that is over. Before the first report: the day before that report's."""
        over = [row.day for row in self.rows if row.day.ends <= self.now]
        if over:
            return max(over, key=lambda day: day.ends)
        return day_of(newest_over(self.now, self.zone) - _A_DAY, self.zone)

    def missing(self) -> list[Day]:
        """List the periods that are over and have no row, oldest first, without those that are too old."""
        oldest = oldest_wanted(self.now, self.zone)
        over = takewhile(lambda day: day.ends <= self.now, days_after(self.last, self.zone))
        return [day for day in over if day.date >= oldest]

    def newest(self) -> Day:
        """Return the newest period that is over."""
        return (self.missing() or [self.last])[-1]

    def running(self) -> Day:
        """Return the period that is not over."""
        return next(day for day in days_after(self.last, self.zone) if day.ends > self.now)


# Index: the primary key, backwards. A clock that was wrong once may have left rows of the future.
_NEWEST_ROWS = text("""
    SELECT day, zone, starts, ends, due_at, attempts = 0 AND sent_at IS NULL AS untried FROM report
    WHERE day <= :upto ORDER BY day DESC LIMIT :count
""")


async def calendar(session: AsyncSession, settings: Settings, *, now: datetime) -> Calendar:
    zone = zone_named(settings.report_timezone)
    upto = newest_over(now, zone) + 3 * _A_DAY  # no zone is further ahead
    rows = await session.execute(_NEWEST_ROWS, {"upto": upto, "count": _ROWS_READ})
    return Calendar(
        [PlannedReport(period_of(row), row["due_at"], row["untried"]) for row in rows.mappings()], zone, now
    )


def period_of(row: RowMapping) -> Day:
    return Day(row["day"], row["zone"], row["starts"], row["ends"])


_LOCK = text("SELECT pg_advisory_xact_lock(7233152)")


async def plan(session: AsyncSession, settings: Settings, *, now: datetime) -> None:
    """Add the missing rows. A report that was never attempted follows a change of the time in the settings."""
    known = await calendar(session, settings, now=now)
    if known.missing():
        await session.execute(_LOCK)
        known = await calendar(session, settings, now=now)
        await _add(session, known, settings)
    await _follow_settings(session, known, settings)


_ADD = text("""
    INSERT INTO report (day, zone, starts, ends, due_at) VALUES (:date, :zone, :starts, :ends, :due_at)
    ON CONFLICT DO NOTHING
""")


async def _add(session: AsyncSession, known: Calendar, settings: Settings) -> None:
    clock = report_clock(settings)
    if rows := [asdict(day) | {"due_at": due_at(day.ends, known.zone, clock)} for day in known.missing()]:
        await session.execute(_ADD, rows)


# Index: the primary key. A locked row keeps its time for now.
_FOLLOW = text("""
    UPDATE report SET due_at = :due_at WHERE day IN (
        SELECT day FROM report WHERE day = :day AND attempts = 0 AND sent_at IS NULL FOR UPDATE SKIP LOCKED)
""")


async def _follow_settings(session: AsyncSession, known: Calendar, settings: Settings) -> None:
    clock, oldest = report_clock(settings), oldest_wanted(known.now, known.zone)
    for row in known.rows:
        due = due_at(row.day.ends, known.zone, clock)
        if row.untried and row.day.date >= oldest and due != row.due_at:
            await session.execute(_FOLLOW, {"day": row.day.date, "due_at": due})


# Index: the primary key.
_ON = text("SELECT day, zone, starts, ends FROM report WHERE day = :day")


async def day_on(session: AsyncSession, settings: Settings, day: date, *, now: datetime) -> Day:
    """Return the period of a day's report, with or without a row. Raises Invalid if there is no such report."""
    known = await calendar(session, settings, now=now)
    running = known.running()
    if day > running.date:
        raise Invalid(FieldError("date", f"{day} has not begun; choose an earlier day"))
    if day.year < _FIRST_YEAR:
        raise Invalid(FieldError("date", f"{day} is before {_FIRST_YEAR}; choose a later day"))
    row = (await session.execute(_ON, {"day": day})).mappings().one_or_none()
    if row:
        return period_of(row)
    to_come = {each.date: each for each in (*known.missing(), running)}
    return to_come.get(day) or await _between(session, day_of(day, known.zone))


# A sequential scan: one row for each day of the service.
_BESIDE = text("""
    SELECT max(ends) FILTER (WHERE starts <= :starts) AS ends, min(starts) FILTER (WHERE starts > :starts) AS starts
    FROM report WHERE tstzrange(starts, ends) && tstzrange(:starts, :ends)
""")


async def _between(session: AsyncSession, day: Day) -> Day:
    """Return the part of a day that no other report covers: before the first report, or in a long outage."""
    beside = (await session.execute(_BESIDE, {"starts": day.starts, "ends": day.ends})).one()
    starts, ends = max(beside.ends or day.starts, day.starts), min(beside.starts or day.ends, day.ends)
    if starts >= ends:
        raise Invalid(
            FieldError("date", f"{day.date} has no report: the reports of the neighbouring days cover its hours")
        )
    return Day(day.date, day.zone, starts, ends)

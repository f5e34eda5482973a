"""Which local days there are to report, when each begins, ends and is due.

A local day is [the first instant whose wall time is its midnight or later, the same of the next day). So days never
overlap and leave nothing out, also where midnight is skipped or comes twice, or a whole day is missing.
"""

from bisect import bisect_left
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from msgspec import Struct

CATCH_UP = 31
"""How many days back a missing report is still made up for; nobody reads older ones."""

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


class Day(Struct, frozen=True):
    """The local day `date` of `zone` as the UTC instants [starts, ends)."""

    date: date
    zone: str
    starts: datetime
    ends: datetime


class DueDay(Struct, frozen=True):
    date: date
    due_at: datetime


def day_of(day: date, zone: ZoneInfo) -> Day:
    return Day(day, zone.key, _midnight(day, zone), _midnight(day + _DAY, zone))


def due_at(day: date, zone: ZoneInfo, clock: time) -> datetime:
    """The report of a day goes out on the next one, as soon as the wall clock shows `clock` or later."""
    return first_instant(datetime.combine(day + _DAY, clock), zone)


def newest_over(now: datetime, zone: ZoneInfo) -> date:
    """The newest day that has ended."""
    day = now.astimezone(zone).date()
    while _midnight(day + _DAY, zone) > now:
        day -= _DAY
    return day


def days_over(now: datetime, zone: ZoneInfo, clock: time) -> list[DueDay]:
    """The newest days that have ended, oldest first: `CATCH_UP` of them, without days that never were."""
    newest = newest_over(now, zone)
    days = (newest - n * _DAY for n in reversed(range(CATCH_UP)))
    return [DueDay(day, due_at(day, zone, clock)) for day in days if _existed(day, zone)]


def first_instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first instant at which a clock in `zone` shows `wall` or a later time."""
    earlier, later = sorted(wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if later.astimezone(zone).replace(tzinfo=None) == wall:
        return earlier
    # the clock skips `wall`: it jumps once, at a whole second between the two readings
    seconds = range((later - earlier) // _SECOND + 1)
    jump = bisect_left(
        seconds, True, key=lambda s: (earlier + s * _SECOND).astimezone(zone).replace(tzinfo=None) >= wall
    )
    return earlier + jump * _SECOND


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return first_instant(datetime.combine(day, time.min), zone)


def _existed(day: date, zone: ZoneInfo) -> bool:
    """Samoa had no 30 December 2011."""
    return _midnight(day, zone) < _midnight(day + _DAY, zone)

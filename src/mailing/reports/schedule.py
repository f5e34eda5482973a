"""Which times there are to report: local days, one after the other without gap and overlap.

A local day is [the first instant whose wall time is its midnight or later, the same of the next day). So days never
overlap and leave nothing out, also where midnight is skipped or comes twice, or a whole day is missing. A period is
such a day, unless the reports' zone was changed: the first one afterwards begins where the last of the old zone ended.
"""

from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from msgspec import Struct

from mailing.timezones import zone_named

MAX_CATCH_UP_DAYS = 31
"""How many days back a missing report is still made up for; nobody reads older ones."""

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


class Day(Struct, frozen=True):
    """The period [starts, ends) as UTC instants, dated as the local day `date` of `zone` in which it ends."""

    date: date
    zone: str
    starts: datetime
    ends: datetime

    @property
    def is_local_day(self) -> bool:
        """It is the local day, no more and no less."""
        return self == day_of(self.date, zone_named(self.zone))


def day_of(day: date, zone: ZoneInfo) -> Day:
    return Day(day, zone.key, _midnight(day, zone), _midnight(day + _DAY, zone))


def days_after(last: Day, zone: ZoneInfo) -> Iterator[Day]:
    """The periods that follow `last`, without end: each begins where the one before ended, and ends with a day there.

    No date comes twice. Where the old zone had the date already, the rest of that day belongs to the next one's period;
    a day that never was has none.
    """
    starts = last.ends
    day = max(starts.astimezone(zone).date(), last.date + _DAY)
    while True:
        ends = _midnight(day + _DAY, zone)
        if ends > starts:
            yield Day(day, zone.key, starts, ends)
            starts = ends
        day += _DAY


def due_at(ends: datetime, zone: ZoneInfo, clock: time) -> datetime:
    """The report of what ended at `ends` goes out as soon as the wall clock shows `clock` or later, from then on."""
    day = ends.astimezone(zone).date()
    that_day = first_instant(datetime.combine(day, clock), zone)
    return that_day if that_day >= ends else first_instant(datetime.combine(day + _DAY, clock), zone)


def newest_over(now: datetime, zone: ZoneInfo) -> date:
    """The newest day that has ended."""
    day = now.astimezone(zone).date()
    while _midnight(day + _DAY, zone) > now:
        day -= _DAY
    return day


def oldest_wanted(now: datetime, zone: ZoneInfo) -> date:
    """Older days are given up."""
    return newest_over(now, zone) - (MAX_CATCH_UP_DAYS - 1) * _DAY


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

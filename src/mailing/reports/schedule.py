"""The periods of reports: local days without gaps or overlaps.

A local day is [the first instant whose wall time is its midnight or later, the same of the next day). So days never
overlap and cover all time, even if midnight is skipped or repeated, or a whole day is missing. A period is such a day,
unless the time zone of the reports was changed: the first period afterwards begins where the last one ended.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from msgspec import Struct

from mailing.timezones import offset_change, zone_named

MAX_CATCH_UP_DAYS = 31  # a missing report is still sent; older ones are of no use

_DAY = timedelta(days=1)


class Day(Struct, frozen=True):
    """The period [starts, ends) as UTC instants, dated as the local day `date` of `zone` in which it ends."""

    date: date
    zone: str
    starts: datetime
    ends: datetime

    @property
    def is_local_day(self) -> bool:
        return self == day_of(self.date, zone_named(self.zone))


def day_of(day: date, zone: ZoneInfo) -> Day:
    return Day(day, zone.key, _midnight(day, zone), _midnight(day + _DAY, zone))


def days_after(last: Day, zone: ZoneInfo) -> Iterator[Day]:
    """Iterate over the periods after `last`, endlessly: each begins where the previous ended and ends with a local day.

    No date comes twice. If the old zone already had the date, the rest of that day belongs to the next period. A day
    that a zone skipped has none.
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
    """Return when a period's report is due: the first instant after `ends` at which the wall clock shows `clock`."""
    day = ends.astimezone(zone).date()
    that_day = first_instant(datetime.combine(day, clock), zone)
    return that_day if that_day >= ends else first_instant(datetime.combine(day + _DAY, clock), zone)


def newest_over(now: datetime, zone: ZoneInfo) -> date:
    day = now.astimezone(zone).date()
    while _midnight(day + _DAY, zone) > now:
        day -= _DAY
    return day


def oldest_wanted(now: datetime, zone: ZoneInfo) -> date:
    """Return the oldest day that is still reported."""
    return newest_over(now, zone) - (MAX_CATCH_UP_DAYS - 1) * _DAY


def first_instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the first instant at which a clock in `zone` shows `wall` or a later time."""
    earlier, later = sorted(wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if later.astimezone(zone).replace(tzinfo=None) == wall:
        return earlier
    return offset_change(zone, after=earlier, until=later)  # the clock skips `wall`


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return first_instant(datetime.combine(day, time.min), zone)

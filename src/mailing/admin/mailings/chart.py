"""The hours of a plan as bars. Pure: numbers for the SVG of the template."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from mailing.mailings.preview import Hour

HEIGHT = 120
_HOUR = timedelta(hours=1)
_GAP = 0.15  # of a bar's width


class Bar(Struct, frozen=True):
    x: float
    y: float
    width: float
    height: float
    at: datetime
    messages: int


class Chart(Struct, frozen=True):
    """One unit of `width` is an hour; nights stay empty."""

    bars: list[Bar]
    width: int
    height: int
    begin: datetime
    end: datetime
    most: int


def chart(hours: Sequence[Hour]) -> Chart | None:
    """None: there is nothing to show."""
    if not hours:
        return None
    begin, end = hours[0].at, hours[-1].at + _HOUR
    most = max(hour.messages for hour in hours)
    bars = [_bar(hour, begin, most) for hour in hours]
    return Chart(bars, (end - begin) // _HOUR, HEIGHT, begin, end, most)


def _bar(hour: Hour, begin: datetime, most: int) -> Bar:
    """Never so low that it can't be seen."""
    height = max(2.0, round(HEIGHT * hour.messages / most, 1))
    x = (hour.at - begin) / _HOUR + _GAP / 2
    return Bar(x, HEIGHT - height, 1 - _GAP, height, hour.at, hour.messages)

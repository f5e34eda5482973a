"""Geometry of the charts: numbers in, rectangles out. The templates draw them as SVG."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from mailing.mailings.preview import Hour

WIDTH = 1000.0
HEIGHT = 100.0
MIN_SIZE = 4.0  # of WIDTH or HEIGHT: every value above zero is visible
_HOUR = timedelta(hours=1)


class Column(Struct, frozen=True):
    x: float
    y: float
    width: float
    height: float
    value: int


class Columns(Struct, frozen=True):
    """Within WIDTH and HEIGHT, on a scale from 0 to `top`, a round number."""

    top: int
    columns: list[Column]


class HourlyChart(Struct, frozen=True):
    """A column for each hour with messages; hours without any stay empty. `max` is the highest value."""

    begin: datetime
    end: datetime
    max: int
    columns: list[Column]


def columns(values: Sequence[int]) -> Columns:
    top = round_up(max(values, default=0))
    step = WIDTH / max(len(values), 1)
    return Columns(top, [_column(n * step, step, value, top) for n, value in enumerate(values)])


def hourly_chart(hours: Sequence[Hour]) -> HourlyChart | None:
    """Return None without hours. The columns are in the order of `hours`."""
    if not hours:
        return None
    begin, end = hours[0].at, hours[-1].at + _HOUR
    step = WIDTH / ((end - begin) / _HOUR)
    top = max(hour.messages for hour in hours)
    return HourlyChart(
        begin, end, top, [_column((hour.at - begin) / _HOUR * step, step, hour.messages, top) for hour in hours]
    )


def _column(x: float, step: float, value: int, top: int) -> Column:
    height = max(HEIGHT * value / top, MIN_SIZE / 2) if value else 0.0
    return Column(round(x, 2), round(HEIGHT - height, 2), round(step * 0.8, 2), round(height, 2), value)


def round_up(value: int) -> int:
    """Round up to one even digit and zeros, such as 40 or 400, so that its half is a whole number."""
    power = 1
    while True:
        for digit in (2, 4, 6, 8, 10):
            if value <= digit * power:
                return digit * power
        power *= 10


class Segment(Struct, frozen=True):
    """A part of a bar. `share` of the whole is 0 to 1."""

    name: str
    x: float
    width: float
    value: int
    share: float


def segments(values: Mapping[str, int]) -> list[Segment]:
    """Divide one bar of WIDTH, in the given order, without zeros."""
    present = {name: value for name, value in values.items() if value}
    total = sum(present.values())
    wanted = {name: max(WIDTH * value / total, MIN_SIZE) for name, value in present.items()}
    scale = WIDTH / sum(wanted.values()) if wanted else 1.0
    found, x = [], 0.0
    for name, width in wanted.items():
        found.append(Segment(name, round(x, 2), round(width * scale, 2), present[name], present[name] / total))
        x += width * scale
    return found

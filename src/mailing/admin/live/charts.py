"""The geometry of the charts: numbers in, rectangles out. The templates draw them as SVG."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

WIDTH = 1000.0
HEIGHT = 100.0
LEAST = 4.0  # of WIDTH or HEIGHT: what is not nothing is seen


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


def columns(values: Sequence[int]) -> Columns:
    top = round_top(max(values, default=0))
    step = WIDTH / max(len(values), 1)
    return Columns(top, [_column(n * step, step * 0.8, value, top) for n, value in enumerate(values)])


def _column(x: float, width: float, value: int, top: int) -> Column:
    height = max(HEIGHT * value / top, LEAST / 2) if value else 0.0
    return Column(round(x, 2), round(HEIGHT - height, 2), round(width, 2), round(height, 2), value)


def round_top(most: int) -> int:
    """The next number with one digit that is not 0, such as 30 or 400; even, so that its half is a number too."""
    power = 1
    while True:
        for digit in (2, 4, 6, 8, 10):
            if most <= digit * power:
                return digit * power
        power *= 10


class Segment(Struct, frozen=True):
    """`share` of the whole is 0 to 1."""

    name: str
    x: float
    width: float
    value: int
    share: float


def segments(values: Mapping[str, int]) -> list[Segment]:
    """One bar of WIDTH, in the order given; without those that are nothing."""
    present = {name: value for name, value in values.items() if value}
    whole = sum(present.values())
    wanted = {name: max(WIDTH * value / whole, LEAST) for name, value in present.items()}
    scale = WIDTH / sum(wanted.values()) if wanted else 1.0
    found, x = [], 0.0
    for name, width in wanted.items():
        found.append(Segment(name, round(x, 2), round(width * scale, 2), present[name], present[name] / whole))
        x += width * scale
    return found

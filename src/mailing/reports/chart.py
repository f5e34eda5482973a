"""The sizes of the report's bar charts: a column for each hour, and the shares of a mailing's messages."""

from collections.abc import Sequence
from datetime import timedelta

from msgspec import Struct

from mailing.reports.figures import DayCounts, Figures, Hour
from mailing.reports.formatting import by_status, hour

MAX_HEIGHT = 72  # pixels
LABEL_EVERY = 6
_HOUR = timedelta(hours=1)


class Column(Struct, frozen=True):
    """The heights of an hour's two bars, in pixels."""

    sent: int
    not_sent: int


class Label(Struct, frozen=True):
    """The clock time at the first of `hours` columns."""

    hours: int
    clock: str


class Chart(Struct, frozen=True):
    height: int
    columns: Sequence[Column]
    labels: Sequence[Label]


class Share(Struct, frozen=True):
    status: str
    percent: int


def chart_of(figures: Figures) -> Chart:
    """Scale a column for each hour of the day; the busiest hour is MAX_HEIGHT high."""
    found, busiest = {each.number: each for each in figures.hours}, figures.busiest_hour
    hours = -((figures.day.starts - figures.day.ends) // _HOUR)
    day = [found.get(number, Hour(number, 0, 0)) for number in range(hours)]
    return Chart(
        height=MAX_HEIGHT + 2,  # the padding of two pixels
        columns=[Column(_height(each.sent, busiest), _height(each.not_sent, busiest)) for each in day],
        labels=[
            Label(min(LABEL_EVERY, hours - number), hour(figures, number)) for number in range(0, hours, LABEL_EVERY)
        ],
    )


def _height(messages: int, busiest: int) -> int:
    """Scale to pixels, rounded up: a single message is visible."""
    return -(-messages * MAX_HEIGHT // busiest) if busiest else 0


def shares(counts: DayCounts) -> list[Share]:
    """Divide a line among the statuses that are not 0, each at least 1 %."""
    present = {status: number for status, number in by_status(counts).items() if number}
    total = sum(present.values())
    return [Share(status, max(1, round(100 * number / total))) for status, number in present.items()]

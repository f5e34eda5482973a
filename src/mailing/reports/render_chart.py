"""Bar charts for mail programs: coloured table cells, which every program shows; no image, no script."""

from collections.abc import Iterable
from datetime import timedelta

from mailing.reports.figures import Figures, Hour
from mailing.reports.formatting import hour

HEIGHT = 72
LABEL_EVERY = 6
_HOUR = timedelta(hours=1)
_LINE = '<table role="presentation" width="100%" cellpadding="0" cellspacing="0" style="border-collapse:collapse">'
_TABLE = _LINE.replace('">', ';table-layout:fixed">')
_EMPTY = "font-size:0;line-height:0"


def columns(figures: Figures, *, sent: str, not_sent: str) -> str:
    """Draw a column for each hour in the colours `sent` and `not_sent`; the highest is HEIGHT pixels high."""
    found = {each.number: each for each in figures.hours}
    numbers = range(-((figures.day.starts - figures.day.ends) // _HOUR))
    bars = "".join(
        _column(found.get(number, Hour(number, 0, 0)), figures.busiest_hour, (not_sent, sent)) for number in numbers
    )
    return f"{_TABLE}<tr>{bars}</tr><tr>{_labels(figures, len(numbers))}</tr></table>"


def _column(each: Hour, busiest: int, colours: tuple[str, str]) -> str:
    heights = (_height(each.not_sent, busiest), _height(each.sent, busiest))
    stack = "".join(_block(height, colour) for height, colour in zip(heights, colours, strict=True) if height)
    return (
        f'<td height="{HEIGHT + 2}" valign="bottom" style="padding:0 1px 2px;{_EMPTY};'
        f'border-bottom:1px solid #808080">{_TABLE}{stack}</table></td>'
    )


def _height(messages: int, busiest: int) -> int:
    """Scale to pixels, rounded up: a single message is visible."""
    return -(-messages * HEIGHT // busiest)


def _block(height: int, colour: str) -> str:
    return f'<tr><td height="{height}" bgcolor="{colour}" style="{_EMPTY}">&nbsp;</td></tr>'


def _labels(figures: Figures, hours: int) -> str:
    return "".join(
        f'<td colspan="{min(LABEL_EVERY, hours - number)}" style="padding:2px 0 0;font-size:12px;white-space:nowrap">'
        f"{hour(figures, number)}</td>"
        for number in range(0, hours, LABEL_EVERY)
    )


def bar(parts: Iterable[tuple[int, str]]) -> str:
    """Draw one thin line, divided among the parts (number, colour) that are not 0; empty if all are 0."""
    present = [(number, colour) for number, colour in parts if number]
    total = sum(number for number, _ in present)
    cells = "".join(
        f'<td width="{max(1, round(100 * number / total))}%" height="5" bgcolor="{colour}" style="{_EMPTY}">&nbsp;</td>'
        for number, colour in present
    )
    return f'<div style="padding:4px 0">{_LINE}<tr>{cells}</tr></table></div>' if present else ""

"""Render figures as a mail: subject, plain text, HTML with the same content, and a CSV of the mailings. Pure.

The CSV is for a spreadsheet: one row for each mailing, columns named as in the API.
"""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from msgspec import Struct

from mailing.csv_writer import BYTE_ORDER_MARK, csv_of
from mailing.mailings.counts import Counts
from mailing.reports import formatting
from mailing.reports.chart import chart_of, shares
from mailing.reports.figures import DayCounts, Figures, MailingFigures
from mailing.reports.formatting import by_status, day_in_words, grouped, one_line
from mailing.reports.render_text import render_text
from mailing.reports.translations import Words

# each has a contrast of 4.3 : 1 to both white and the #121212 of dark mode, the maximum for both
COLOURS = {"sent": "#1d8b50", "failed": "#d84638", "expired": "#a86c0a", "unknown": "#995dd0", "cancelled": "#747a83"}
COLUMNS = (
    *("mailing_id", "text", "status"),
    *(f"{name}_that_day" for name in DayCounts.__struct_fields__),
    *Counts.__struct_fields__,
)


class Rendered(Struct, frozen=True):
    subject: str
    text: str
    html: str
    mailings_csv: str


def render(figures: Figures, words: Words) -> Rendered:
    subject = _subject(figures, words)
    table = BYTE_ORDER_MARK + csv_of([COLUMNS, *map(_row, figures.mailings)])
    return Rendered(subject, render_text(figures, words), render_html(figures, words, title=subject), table)


def _subject(figures: Figures, words: Words) -> str:
    numbers = by_status(figures.ended).items()
    news = [f"{grouped(number)} {words.statuses[status]}" for status, number in numbers if number or status == "sent"]
    return words.subject.format(date=day_in_words(figures.day.date, words), news=", ".join(news))


def render_html(figures: Figures, words: Words, *, title: str) -> str:
    return _environment().get_template("report.html").render(figures=figures, words=words, title=title)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mailing.reports", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.globals |= {"formatting": formatting, "chart_of": chart_of, "shares": shares, "colours": COLOURS}
    return environment


def _row(mailing: MailingFigures) -> list[object]:
    counts = (*by_status(mailing.ended).values(), *by_status(mailing.totals).values())
    return [mailing.id, one_line(mailing.text), mailing.status, *counts]

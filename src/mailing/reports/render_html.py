"""Render the report as HTML for mail programs, from the template `report.html`."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from mailing.reports import formatting
from mailing.reports.chart import chart_of, shares
from mailing.reports.figures import Figures
from mailing.reports.translations import Words

# each has a contrast of 4.3 : 1 to both white and the #121212 of dark mode, the maximum for both
COLOURS = {"sent": "#1d8b50", "failed": "#d84638", "expired": "#a86c0a", "unknown": "#995dd0", "cancelled": "#747a83"}


def render_html(figures: Figures, words: Words, *, title: str) -> str:
    return (
        _environment()
        .get_template("report.html")
        .render(
            figures=figures,
            words=words,
            colours=COLOURS,
            title=title,
            weekday=formatting.weekday(figures.day.date, words),
            date=formatting.day_in_words(figures.day.date, words),
            is_over=formatting.is_over(figures),
            span=formatting.span_in_utc(figures, words),
            period_note=formatting.period_note(figures, words),
            delivery_note=formatting.delivery_note(figures, words),
            busiest=_busiest(figures, words),
            chart=chart_of(figures),
            mailings=formatting.top_mailings(figures),
            omitted_note=formatting.omitted_note(figures, words),
            totals_title=words.altogether.format(moment=formatting.moment(figures.taken_at, figures.day.zone)),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mailing.reports", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "by_status": lambda counts: formatting.by_status(counts).items(),
        "excerpt": formatting.excerpt,
        "grouped": formatting.grouped,
        "progress": formatting.progress,
        "shares": shares,
        "reason_in_words": formatting.reason_in_words,
    }
    return environment


def _busiest(figures: Figures, words: Words) -> str:
    peak = next((each for each in figures.hours if each.sent + each.not_sent == figures.busiest_hour), None)
    if peak is None:
        return ""
    return words.busiest.format(
        hour=formatting.hour(figures, peak.number), messages=formatting.grouped(figures.busiest_hour)
    )

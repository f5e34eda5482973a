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

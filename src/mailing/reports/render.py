"""Figures into a mail: subject, plain text and HTML, each telling the same. Pure."""

from msgspec import Struct

from mailing.reports.figures import Figures
from mailing.reports.render_html import page
from mailing.reports.render_text import plain
from mailing.reports.wording import by_status, day_in_words, grouped


class Rendered(Struct, frozen=True):
    subject: str
    text: str
    html: str


def render(figures: Figures) -> Rendered:
    subject = _subject(figures)
    return Rendered(subject, plain(figures), page(figures, title=subject))


def _subject(figures: Figures) -> str:
    numbers = by_status(figures.ended).items()
    news = [f"{grouped(number)} {status}" for status, number in numbers if number or status == "sent"]
    return f"Mailing report for {day_in_words(figures.day.date)}: {', '.join(news)}"

"""Figures into a mail: subject, plain text and HTML, each telling the same, and a table of the mailings. Pure."""

from msgspec import Struct

from mailing.reports.csv_attachment import table
from mailing.reports.figures import Figures
from mailing.reports.formatting import by_status, day_in_words, grouped
from mailing.reports.render_html import page
from mailing.reports.render_text import plain
from mailing.reports.translations import Words


class Rendered(Struct, frozen=True):
    subject: str
    text: str
    html: str
    table: str


def render(figures: Figures, words: Words) -> Rendered:
    subject = _subject(figures, words)
    return Rendered(subject, plain(figures, words), page(figures, words, title=subject), table(figures.mailings))


def _subject(figures: Figures, words: Words) -> str:
    numbers = by_status(figures.ended).items()
    news = [f"{grouped(number)} {words.statuses[status]}" for status, number in numbers if number or status == "sent"]
    return words.subject.format(date=day_in_words(figures.day.date, words), news=", ".join(news))

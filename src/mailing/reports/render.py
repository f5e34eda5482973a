"""Render figures as a mail: subject, plain text, HTML with the same content, and a CSV of the mailings. Pure."""

from msgspec import Struct

from mailing.reports.csv_attachment import mailings_csv
from mailing.reports.figures import Figures
from mailing.reports.formatting import by_status, day_in_words, grouped
from mailing.reports.render_html import render_html
from mailing.reports.render_text import render_text
from mailing.reports.translations import Words


class Rendered(Struct, frozen=True):
    subject: str
    text: str
    html: str
    mailings_csv: str


def render(figures: Figures, words: Words) -> Rendered:
    subject = _subject(figures, words)
    return Rendered(
        subject, render_text(figures, words), render_html(figures, words, title=subject), mailings_csv(figures.mailings)
    )


def _subject(figures: Figures, words: Words) -> str:
    numbers = by_status(figures.ended).items()
    news = [f"{grouped(number)} {words.statuses[status]}" for status, number in numbers if number or status == "sent"]
    return words.subject.format(date=day_in_words(figures.day.date, words), news=", ".join(news))

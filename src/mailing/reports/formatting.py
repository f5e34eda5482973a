"""Sentences, numbers and dates, formatted alike for the text and the HTML of a report."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import msgspec
from babel.dates import format_date

from mailing.mailings.counts import Counts
from mailing.reasons.codes import Reason, words_of
from mailing.reports.figures import DayCounts, Figures, MailingFigures
from mailing.reports.translations import Words
from mailing.timezones import zone_named

MAX_MAILINGS = 50  # in the mail; the attached table has all of them


def grouped(number: int) -> str:
    """Group digits: 12 345, with narrow no-break spaces."""
    return f"{number:,}".replace(",", "\u202f")


def day_in_words(day: date, words: Words) -> str:
    return format_date(day, words.date, locale=words.language)


def weekday(day: date, words: Words) -> str:
    return format_date(day, "EEEE", locale=words.language)


def moment(instant: datetime, zone: str) -> str:
    return f"{instant.astimezone(zone_named(zone)):%Y-%m-%d %H:%M}"


def span_in_utc(figures: Figures, words: Words) -> str:
    """Return the period as instants, which decide on which day a message is counted."""
    starts, ends = figures.day.starts, figures.day.ends
    return words.span.format(starts=f"{starts:%Y-%m-%d %H:%M}", ends=f"{ends:%Y-%m-%d %H:%M}")


def period_note(figures: Figures, words: Words) -> str:
    """Explain a period that is not a local day; empty for one that is."""
    day = figures.day
    if day.is_local_day:
        return ""
    return words.not_plain.format(starts=moment(day.starts, day.zone), ends=moment(day.ends, day.zone))


def is_over(figures: Figures) -> bool:
    return figures.day.ends <= figures.taken_at


def by_status(counts: Counts | DayCounts) -> dict[str, int]:
    return msgspec.structs.asdict(counts)


def one_line(text: str) -> str:
    """Clean text of users and gateways: no invisible characters, line breaks or changes of the writing direction."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def excerpt(text: str, length: int) -> str:
    line = one_line(text)
    return line if len(line) <= length else line[: length - 1].rstrip(" .,") + "…"


def top_mailings(figures: Figures) -> Sequence[MailingFigures]:
    """Return the mailings with the most messages of the day, by id."""
    busiest = sorted(figures.mailings, key=lambda mailing: (-mailing.ended.messages, -mailing.id))[:MAX_MAILINGS]
    return sorted(busiest, key=lambda mailing: mailing.id)


def delivery_note(figures: Figures, words: Words) -> str:
    """Say how many of the day's messages arrived; empty without receipts, and without messages."""
    delivery = figures.delivery
    if delivery is None or not delivery.sent:
        return ""
    names = ("sent", "delivered", "undelivered", "awaited")
    return words.delivery.format(**{name: grouped(getattr(delivery, name)) for name in names})


def omitted_note(figures: Figures, words: Words) -> str:
    """Mention the mailings that are not shown; empty if all are shown."""
    number = len(figures.mailings) - MAX_MAILINGS
    if number <= 0:
        return ""
    messages = figures.ended.messages - sum(mailing.ended.messages for mailing in top_mailings(figures))
    return words.more.format(mailings=grouped(number), messages=grouped(messages))


def busiest_note(figures: Figures, words: Words) -> str:
    """Name the busiest hour; empty if no message ended."""
    peak = next((each for each in figures.hours if each.sent + each.not_sent == figures.busiest_hour), None)
    return words.busiest.format(hour=hour(figures, peak.number), messages=grouped(figures.busiest_hour)) if peak else ""


def progress(mailing: MailingFigures, words: Words) -> str:
    totals = mailing.totals
    numbers = {"open": grouped(totals.pending + totals.sending), "planned": grouped(totals.planned)}
    if totals.pending + totals.sending:
        left = words.still_to_go
    else:
        left = words.all_done if totals.planned else words.nothing_planned
    return f"{words.mailing_statuses[mailing.status]}, {left.format(**numbers)}"


def reason_in_words(reason: Reason | None, words: Words) -> str:
    return one_line(words_of(reason, words.language)) or words.no_reason


def hour(figures: Figures, number: int) -> str:
    """Return the wall clock time at which the day's hour `number` begins; a clock change skips or repeats one."""
    begins = figures.day.starts + timedelta(hours=number)
    return f"{begins.astimezone(zone_named(figures.day.zone)):%H:%M}"

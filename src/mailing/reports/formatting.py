"""Sentences, numbers and dates as both forms of the report show them."""

import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from functools import reduce

import msgspec

from mailing.reports.figures import DayCounts, Figures, MailingFigures, StatusCounts
from mailing.reports.translations import Words
from mailing.timezones import zone_named

MAX_MAILINGS = 50
"""A mail is read by a person; the attached table has the others."""


def grouped(number: int) -> str:
    """12 345, with spaces that are narrow and never break a line."""
    return f"{number:,}".replace(",", "\u202f")


def day_in_words(day: date, words: Words) -> str:
    return words.date.format(day=day.day, month=words.months[day.month - 1], year=day.year)


def weekday(day: date, words: Words) -> str:
    return words.weekdays[day.weekday()]


def moment(instant: datetime, zone: str) -> str:
    return f"{instant.astimezone(zone_named(zone)):%Y-%m-%d %H:%M}"


def span_in_utc(figures: Figures, words: Words) -> str:
    """The day as instants: what decides where a message is counted."""
    starts, ends = figures.day.starts, figures.day.ends
    return words.span.format(starts=f"{starts:%Y-%m-%d %H:%M}", ends=f"{ends:%Y-%m-%d %H:%M}")


def period_note(figures: Figures, words: Words) -> str:
    """A sentence about a period that is no local day; empty for one that is."""
    day = figures.day
    if day.is_local_day:
        return ""
    return words.not_plain.format(starts=moment(day.starts, day.zone), ends=moment(day.ends, day.zone))


def is_over(figures: Figures) -> bool:
    return figures.day.ends <= figures.taken_at


def by_status(counts: DayCounts | StatusCounts) -> dict[str, int]:
    return msgspec.structs.asdict(counts)


def one_line(text: str) -> str:
    """Text from people and gateways: nothing invisible, nothing that turns the writing direction or breaks the line."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def excerpt(text: str, length: int) -> str:
    line = one_line(text)
    return line if len(line) <= length else line[: length - 1].rstrip(" .,") + "…"


def top_mailings(figures: Figures) -> Sequence[MailingFigures]:
    """The mailings with the most messages of the day, in their own order."""
    busiest = sorted(figures.mailings, key=lambda mailing: (-mailing.ended.messages, -mailing.id))[:MAX_MAILINGS]
    return sorted(busiest, key=lambda mailing: mailing.id)


def omitted_note(figures: Figures, words: Words) -> str:
    """A sentence about the mailings that are not shown; empty when all are."""
    number = len(figures.mailings) - MAX_MAILINGS
    if number <= 0:
        return ""
    messages = figures.ended.messages - sum(mailing.ended.messages for mailing in top_mailings(figures))
    return words.more.format(mailings=grouped(number), messages=grouped(messages))


def progress(mailing: MailingFigures, words: Words) -> str:
    """Its state, and what there is left to do."""
    standing = mailing.totals
    numbers = {"open": grouped(standing.pending + standing.sending), "planned": grouped(standing.planned)}
    if standing.pending + standing.sending:
        left = words.still_to_go
    else:
        left = words.all_done if standing.planned else words.nothing_planned
    return f"{words.mailing_statuses.get(mailing.status, mailing.status)}, {left.format(**numbers)}"


def translate_reason(reason: str, words: Words) -> str:
    """Why a message did not go out, in the report's language as far as the sentence is one of ours."""
    line = one_line(reason)
    return reduce(_translated, words.reasons.items(), line) or words.no_reason


def _translated(text: str, sentence: tuple[str, str]) -> str:
    pattern, translation = sentence
    return re.sub(pattern, translation, text)


def hour(figures: Figures, number: int) -> str:
    """What the clock shows when the day's hour `number` begins; a clock change skips one or shows one twice."""
    begins = figures.day.starts + timedelta(hours=number)
    return f"{begins.astimezone(zone_named(figures.day.zone)):%H:%M}"

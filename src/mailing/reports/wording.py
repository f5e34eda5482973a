"""Words, numbers and dates as both forms of the report show them."""

from collections.abc import Sequence
from datetime import date, datetime

import msgspec

from mailing.reports.figures import Ended, Figures, MailingFigures, Standing
from mailing.zones import zone_named

MAX_MAILINGS = 50
"""A mail is read by a person; the statistics of the API have the others."""

MEANINGS = {
    "sent": "accepted by the gateway",
    "failed": "refused by the gateway",
    "expired": "not sent before the mailing's end",
    "unknown": "nobody can know whether it arrived",
    "cancelled": "stopped before it was sent",
}


def grouped(number: int) -> str:
    """12 345, with spaces that are narrow and never break a line."""
    return f"{number:,}".replace(",", "\u202f")


def day_in_words(day: date) -> str:
    return f"{day.day} {day:%B} {day.year}"


def moment(instant: datetime, zone: str) -> str:
    return f"{instant.astimezone(zone_named(zone)):%Y-%m-%d %H:%M}"


def span_in_utc(figures: Figures) -> str:
    """The day as instants: what decides where a message is counted."""
    return f"{figures.day.starts:%Y-%m-%d %H:%M} to {figures.day.ends:%Y-%m-%d %H:%M} UTC"


def is_over(figures: Figures) -> bool:
    return figures.day.ends <= figures.taken_at


def by_status(counts: Ended | Standing) -> dict[str, int]:
    return msgspec.structs.asdict(counts)


def one_line(text: str) -> str:
    """Text from people and gateways: nothing invisible, nothing that turns the writing direction or breaks the line."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def excerpt(text: str, length: int) -> str:
    line = one_line(text)
    return line if len(line) <= length else line[: length - 1].rstrip(" .,") + "…"


def shown(figures: Figures) -> Sequence[MailingFigures]:
    """The mailings with the most messages of the day, in their own order."""
    busiest = sorted(figures.mailings, key=lambda mailing: (-mailing.ended.messages, -mailing.id))[:MAX_MAILINGS]
    return sorted(busiest, key=lambda mailing: mailing.id)


def left_out(figures: Figures) -> str:
    """A sentence about the mailings that are not shown; empty when all are."""
    number = len(figures.mailings) - MAX_MAILINGS
    if number <= 0:
        return ""
    messages = figures.ended.messages - sum(mailing.ended.messages for mailing in shown(figures))
    return f"and {grouped(number)} more with {grouped(messages)} messages"


def left_to_do(mailing: MailingFigures) -> str:
    standing = mailing.standing
    open_ = standing.pending + standing.sending
    if not open_:
        return f"all {grouped(standing.planned)} planned messages are done" if standing.planned else "nothing planned"
    return f"{grouped(open_)} of {grouped(standing.planned)} planned messages still to go"

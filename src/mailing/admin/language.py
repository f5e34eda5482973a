"""The two languages of the admin page. English is in the code, Russian in `ru.po` beside it."""

import re
from datetime import date, datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path

from babel.core import negotiate_locale
from babel.dates import format_date, format_datetime
from babel.numbers import format_decimal, format_percent
from markupsafe import Markup

from mailing.timezones import zone_named
from mailing.translations import LANGUAGES, pgettext, translations

HERE = Path(__file__).parent
_ACTORS = {
    *(pgettext("actor", "user"), pgettext("actor", "key"), pgettext("actor", "worker"), pgettext("actor", "api")),
    *(pgettext("actor", "service"), pgettext("actor", "command line"), pgettext("actor", "receipt")),
    pgettext("actor", "reply"),
}
_NAMED_ACTOR = re.compile(r"(user|key) ([0-9]+) \((.*)\)", re.DOTALL).fullmatch


def preferred(accept_language: str) -> str:
    asked = [tag.partition(";")[0].strip() for tag in accept_language.split(",")]
    return negotiate_locale(asked, LANGUAGES, sep="-") or "en"


def isolated(text: object) -> Markup:
    """Keep the writing direction of a user's text from reordering what stands beside it."""
    return Markup("<bdi>{}</bdi>").format(text)


def actor(by: str, language: str) -> Markup:
    """Translate what an event has as its actor; names stay, and so does what is not one of ours."""
    words = partial(translations(language).pgettext, "actor")
    if named := _NAMED_ACTOR(by):
        return Markup("{} {} ({})").format(words(named[1]), named[2], isolated(named[3]))
    return isolated(words(by) if by in _ACTORS else by)


@lru_cache(10_000)  # a page repeats a few numbers and times, and Babel is slow
def number(value: float, language: str) -> str:
    return format_decimal(value, locale=language)


def percent(share: float, language: str) -> str:
    """Format a share of 0 to 1. Only zero is shown as 0 %, and only one as 100 %."""
    shown = min(max(share, 0.001), 0.999) if 0 < share < 1 else share
    return format_percent(shown, format="#,##0.#\xa0%", locale=language)


@lru_cache(10_000)
def instant(value: datetime, language: str, zone: str) -> str:
    local = value.astimezone(zone_named(zone))
    return f"{format_datetime(local, 'd MMM y, HH:mm', locale=language)} {offset(local)}"


def day(value: date, language: str) -> str:
    return format_date(value, "EEE, d MMM y", locale=language)


def offset(local: datetime) -> str:
    ahead = local.utcoffset()
    if not ahead:
        return "UTC"
    hours, minutes = divmod(abs(ahead) // timedelta(minutes=1), 60)
    sign = "−" if ahead < timedelta() else "+"
    return f"UTC{sign}{hours}" + (f":{minutes:02}" if minutes else "")


def duration(seconds: float, language: str) -> str:
    """Format as the two largest units, such as "2 h 5 min"."""
    names = {"en": ("d", "h", "min", "s"), "ru": ("д", "ч", "мин", "с")}[language]
    rest = round(seconds)
    parts: list[str] = []
    for size, name in zip((86_400, 3_600, 60, 1), names, strict=True):
        count, rest = divmod(rest, size)
        if count or (size == 1 and not parts):
            parts.append(f"{number(count, language)}\xa0{name}")
    return " ".join(parts[:2])

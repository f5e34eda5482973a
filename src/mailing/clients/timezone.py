"""Time zones by their IANA names alone: PostgreSQL reads `UTC+3` with the opposite sign, so an offset is a trap."""

import re
from functools import cache

from mailing.timezones import known_zone, zone_names

RULE = "an IANA time zone, such as Europe/Moscow"

_OFFSET = re.compile(r"(?:UTC|GMT)?\s*([+\-\u2212])\s*0?(\d{1,2})(?::?00)?", re.IGNORECASE | re.ASCII).fullmatch


def suggestion(name: str) -> str:
    """What to write instead of a name that is not known; never repeats the caller's own words."""
    if offset := _OFFSET(name.strip()):
        fixed = _fixed_zone(int(offset[2]) if offset[1] == "+" else -int(offset[2]))
        return f"must be {RULE}, not an offset" + (f"; {fixed} is this one, all year round" if fixed else "")
    if close := _spellings().get(name.strip().replace(" ", "_").casefold()):
        return f"must be {RULE}; did you mean {close}?"
    return f"must be {RULE}"


def _fixed_zone(hours_east: int) -> str | None:
    """`Etc/GMT-3` is three hours east of Greenwich: the sign of these names is the opposite of everyday use."""
    name = f"Etc/GMT{-hours_east:+d}" if hours_east else "Etc/UTC"
    return name if known_zone(name) else None


@cache
def selectable() -> list[str]:
    """The names to choose from, those of places first; short and outdated spellings are known, but not offered."""
    names = sorted(name for name in zone_names() if "/" in name)
    return [*(name for name in names if not name.startswith("Etc/")), "UTC"]


@cache
def _spellings() -> dict[str, str]:
    """The names without regard to case, and their cities alone."""
    names = sorted(zone_names())
    cities = {name.rpartition("/")[2].casefold(): name for name in names if not name.startswith("Etc/")}
    return cities | {name.casefold(): name for name in names}

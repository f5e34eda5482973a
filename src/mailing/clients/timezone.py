"""Time zones by their IANA names alone: PostgreSQL reads `UTC+3` with the opposite sign, so an offset is a trap."""

import re
from functools import cache
from zoneinfo import available_timezones

RULE = "an IANA time zone, such as Europe/Moscow"

_OFFSET = re.compile(r"(?:UTC|GMT)?\s*([+\-\u2212])\s*(\d{1,2})(?::?00)?", re.IGNORECASE).fullmatch


@cache
def known_zones() -> frozenset[str]:
    """Without the names that mean something else on each machine, or nothing."""
    return frozenset(
        name
        for name in available_timezones()
        if name not in {"localtime", "Factory", "posixrules"} and not name.startswith(("posix/", "right/"))
    )


def remedy(name: str) -> str:
    """What to write instead of a name that is not known; never repeats the caller's own words."""
    if offset := _OFFSET(name.strip()):
        east = offset[1] == "+"
        hours = int(offset[2])
        if east_of_utc := _fixed_zone(hours if east else -hours):
            return f"must be {RULE}; an offset does not say when clocks change; {east_of_utc} is the fixed offset"
    if close := _spellings().get(name.strip().replace(" ", "_").casefold()):
        return f"must be {RULE}; did you mean {close}?"
    return f"must be {RULE}; not an offset such as UTC+3, not an abbreviation"


def _fixed_zone(hours_east: int) -> str | None:
    """`Etc/GMT-3` is three hours east of Greenwich: the sign of these names is the opposite of everyday use."""
    name = f"Etc/GMT{-hours_east:+d}" if hours_east else "Etc/UTC"
    return name if name in known_zones() else None


@cache
def _spellings() -> dict[str, str]:
    """The names without regard to case, and their cities alone."""
    names = sorted(known_zones())
    cities = {name.rpartition("/")[2].casefold(): name for name in names if not name.startswith("Etc/")}
    return cities | {name.casefold(): name for name in names}

"""Time zones are given as IANA names only: PostgreSQL reads `UTC+3` with the opposite sign, so an offset is a trap."""

import re
from functools import cache

from mailing.reasons.refusals import Refusal, RefusalCode
from mailing.timezones import known_zone, zone_names

_OFFSET = re.compile(r"(?:UTC|GMT)?\s*([+\-\u2212])\s*0?(\d{1,2})(?::?00)?", re.IGNORECASE | re.ASCII).fullmatch


def suggestion(name: str) -> Refusal:
    """Say what to write instead of an unknown name; the caller's input is never repeated."""
    if offset := _OFFSET(name.strip()):
        fixed = _fixed_zone(int(offset[2]) if offset[1] == "+" else -int(offset[2]))
        if fixed:
            return Refusal(RefusalCode.timezone_fixed, {"name": fixed})
        return Refusal(RefusalCode.timezone_offset)
    if close := _spellings().get(name.strip().replace(" ", "_").casefold()):
        return Refusal(RefusalCode.timezone_misspelt, {"name": close})
    return Refusal(RefusalCode.timezone)


def _fixed_zone(hours_east: int) -> str | None:
    """Name the zone of an offset. `Etc/GMT-3` is three hours east of Greenwich: these names have the opposite sign."""
    name = f"Etc/GMT{-hours_east:+d}" if hours_east else "Etc/UTC"
    return name if known_zone(name) else None


@cache
def selectable() -> list[str]:
    """List the names to choose from, places first; short and outdated names are accepted, but not listed."""
    names = sorted(name for name in zone_names() if "/" in name)
    return [*(name for name in names if not name.startswith("Etc/")), "UTC"]


@cache
def _spellings() -> dict[str, str]:
    """Map names in lower case, and their cities alone, to the name."""
    names = sorted(zone_names())
    cities = {name.rpartition("/")[2].casefold(): name for name in names if not name.startswith("Etc/")}
    return cities | {name.casefold(): name for name in names}

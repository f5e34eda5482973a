"""The IANA time zones, with the rules of the tzdata package: locked with the code, so alike on every machine."""

from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_TZDATA = "tzdata"


def known_zone(name: str) -> bool:
    """Whether `name` is, letter for letter, a zone or link of the IANA database in the tzdata package.

    Fixed zones count, with the POSIX sign IANA gives them: `Etc/GMT-3` is three hours ahead of UTC. What only an
    operating system or PostgreSQL understands does not: `UTC+3`, `localtime`, `posix/…`; nor does the
    placeholder `Factory`.
    """
    return name in zone_names()


@cache
def zone_named(name: str) -> ZoneInfo:
    """Load the zone with the tzdata package's rules; ZoneInfoNotFoundError for one that is not known.

    `ZoneInfo(name)` prefers the operating system's rules, and two machines of different age may be an hour apart.
    """
    if not known_zone(name):
        raise ZoneInfoNotFoundError(f"No time zone {name!r}")
    with files(_TZDATA).joinpath("zoneinfo", *name.split("/")).open("rb") as rules:
        return ZoneInfo.from_file(rules, key=name)


@cache
def zone_names() -> frozenset[str]:
    return frozenset(files(_TZDATA).joinpath("zones").read_text(encoding="ascii").split()) - {"Factory"}

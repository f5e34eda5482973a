"""IANA time zones with the rules of the tzdata package, whose version is locked: the same on every machine."""

from bisect import bisect_left
from datetime import datetime, timedelta
from functools import cache
from hashlib import sha256
from importlib import import_module
from importlib.resources import files
from importlib.resources.abc import Traversable
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_TZDATA = "tzdata"
_SECOND = timedelta(seconds=1)


def known_zone(name: str) -> bool:
    """Whether `name` is exactly a zone or link of the IANA database in the tzdata package.

    Fixed zones are included, with the POSIX sign that IANA uses: `Etc/GMT-3` is three hours ahead of UTC. Names that
    only an operating system or PostgreSQL knows are not (`UTC+3`, `localtime`, `posix/…`), nor is the placeholder
    `Factory`.
    """
    return name in zone_names()


@cache
def zone_named(name: str) -> ZoneInfo:
    """Load a zone with the tzdata package's rules. Raise ZoneInfoNotFoundError if it is unknown.

    `ZoneInfo(name)` prefers the operating system's rules, which may differ by an hour between two machines.
    """
    if not known_zone(name):
        raise ZoneInfoNotFoundError(f"No time zone {name!r}")
    with _rules_file(name).open("rb") as rules:
        return ZoneInfo.from_file(rules, key=name)


def offset_change(zone: ZoneInfo, *, after: datetime, until: datetime) -> datetime:
    """Find the change of UTC offset in (after, until]; without one, answer an instant past `until`.

    Bisection sees every change because `until` is at most a day away, and no zone has ever changed twice in less
    than six (a test measures it).
    """
    start = after.replace(microsecond=0)  # zones change at whole seconds
    seconds = range((until - start) // _SECOND + 1)
    offset = after.astimezone(zone).utcoffset()
    changed = bisect_left(seconds, True, key=lambda s: (start + s * _SECOND).astimezone(zone).utcoffset() != offset)
    return start + changed * _SECOND


@cache
def rules_version() -> str:
    """Return IANA's version and a digest of all rules: an edited file has another version, too.

    A newer version sorts behind an older one. Reads 600 files, 50 ms.
    """
    rules = sha256()
    for name in sorted(zone_names()):
        rules.update(name.encode() + _rules_file(name).read_bytes())
    return f"{iana_version()}-{rules.hexdigest()[:12]}"


def iana_version() -> str:
    version: str = import_module(_TZDATA).IANA_VERSION
    return version


@cache
def zone_names() -> frozenset[str]:
    return frozenset(files(_TZDATA).joinpath("zones").read_text(encoding="ascii").split()) - {"Factory"}


def _rules_file(name: str) -> Traversable:
    return files(_TZDATA).joinpath("zoneinfo", *name.split("/"))

"""The window against clocks on the wall: plain examples, then every zone and every change of offset 2000-2037.

The oracle of the sweeps reads the wall clock minute by minute (or second by second) and knows nothing of edges.
"""

import json
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time, timedelta
from functools import cache
from importlib.resources import files
from itertools import pairwise, permutations
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mailing.mailings.window import LocalWindow, is_open, next_window
from mailing.timezones import known_zone, zone_named

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE, HOUR, DAY = 60, 3_600, 86_400
Y2000, Y2038 = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (2000, 2038))
ZONES = sorted(name for name in available_timezones() if known_zone(name))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def window(text: str) -> LocalWindow:
    start, end = text.split("-")
    return LocalWindow(time.fromisoformat(start), time.fromisoformat(end))


Span = tuple[datetime, datetime]


def next_span(hours: LocalWindow | None, zone: str, *, not_before: datetime, before: datetime) -> Span | None:
    found = next_window(zone, hours, not_before=not_before, before=before)
    return (found.opens_at, found.closes_at) if found.opens_at and found.closes_at else None


def chain(hours: LocalWindow, zone: str, *, not_before: datetime, before: datetime) -> Iterator[Span]:
    while span := next_span(hours, zone, not_before=not_before, before=before):
        yield span
        not_before = span[1]


# --- examples -------------------------------------------------------------------------------------------------------

# What, and below it: the hours, the zone, not before, before = the windows in a row, in UTC
EXAMPLES = """
a day opens at its local start and closes at its local end
    09:00-21:00 Europe/Moscow 2026-06-01 2026-06-03 = 06-01 06:00 > 06-01 18:00, 06-02 06:00 > 06-02 18:00
an instant at the end waits for the next day
    09:00-21:00 Europe/Moscow 2026-06-01T18 2026-06-02T12 = 06-02 06:00 > 06-02 12:00
a mailing that ends before the next start has no window
    09:00-21:00 Europe/Moscow 2026-06-01T18 2026-06-02T06 =
a window over midnight is one span a night
    21:00-06:00 Asia/Kathmandu 2026-01-01T03 2026-01-03 = 01-01 15:15 > 01-02 00:15, 01-02 15:15 > 01-03 00:00
a window until midnight closes at midnight
    22:00-00:00 Asia/Kolkata 2026-01-01 2026-01-02 = 01-01 16:30 > 01-01 18:30
an hour skipped in New York does not open that day
    02:00-03:00 America/New_York 2026-03-07 2026-03-10 = 03-07 07:00 > 03-07 08:00, 03-09 06:00 > 03-09 07:00
a start skipped in New York opens when the clock jumps past it
    02:30-04:00 America/New_York 2026-03-08 2026-03-09 = 03-08 07:00 > 03-08 08:00
an end skipped in New York closes when the clock jumps past it
    01:00-02:30 America/New_York 2026-03-08 2026-03-09 = 03-08 06:00 > 03-08 07:00
half an hour repeated in Berlin opens twice
    02:00-02:30 Europe/Berlin 2026-10-25 2026-10-26 = 10-25 00:00 > 10-25 00:30, 10-25 01:00 > 10-25 01:30
a whole hour repeated in Berlin is one span of two hours
    02:00-03:00 Europe/Berlin 2026-10-25 2026-10-26 = 10-25 00:00 > 10-25 02:00
a clock set back before the start closes the window for a while
    02:30-09:00 Europe/Berlin 2026-10-25 2026-10-25T23 = 10-25 00:30 > 10-25 01:00, 10-25 01:30 > 10-25 08:00
Lord Howe moves its clock forward by half an hour
    02:00-02:30 Australia/Lord_Howe 2026-10-03 2026-10-04T20 = 10-04 15:00 > 10-04 15:30
Lord Howe moves its clock back by half an hour
    01:30-01:45 Australia/Lord_Howe 2026-04-04 2026-04-05 = 04-04 14:30 > 04-04 14:45, 04-04 15:00 > 04-04 15:15
a midnight skipped in Beirut opens at one
    00:00-02:00 Asia/Beirut 2026-03-28T12 2026-03-29T12 = 03-28 22:00 > 03-28 23:00
a midnight repeated in Havana splits the evening
    23:00-00:30 America/Havana 2025-11-01T12 2025-11-03 = 11-02 03:00 > 11-02 04:30, 11-02 05:00 > 11-02 05:30
a day skipped in Apia, 2011-12-30, has no opening of its own
    09:00-21:00 Pacific/Apia 2011-12-29T12 2011-12-31T12 = 12-29 19:00 > 12-30 07:00, 12-30 19:00 > 12-31 07:00
a day skipped in Kwajalein, 1993-08-21, has no opening of its own
    09:00-21:00 Pacific/Kwajalein 1993-08-20T15 1993-08-22T15 = 08-20 21:00 > 08-21 09:00, 08-21 21:00 > 08-22 09:00
a day skipped at midnight joins the days beside it in one span
    21:00-06:00 Pacific/Apia 2011-12-30 2011-12-31 = 12-30 07:00 > 12-30 16:00
an instant inside the window opens at once, to the microsecond
    09:00-21:00 Europe/Moscow 2026-06-01T17:59:59.999999 2026-06-02T06 = 06-01 17:59:59.999999 > 06-01 18:00
a window of one second opens for that second
    09:00:07-09:00:08 UTC 2026-01-01 2026-01-02 = 01-01 09:00:07 > 01-01 09:00:08
a window of one microsecond opens for that microsecond
    09:00:00.000001-09:00:00.000002 UTC 2026-01-01T09 2026-01-02 = 01-01 09:00:00.000001 > 01-01 09:00:00.000002
an opening one microsecond before the end is a window
    09:00-21:00 Europe/Moscow 2026-06-01T18 2026-06-02T06:00:00.000001 = 06-02 06:00 > 06-02 06:00:00.000001
an offset with seconds, in Monrovia until 1972-01-07, is kept to the second
    09:00-21:00 Africa/Monrovia 1972-01-01 1972-01-02 = 01-01 09:44:30 > 01-01 21:44:30
"""
LINES = EXAMPLES.strip().splitlines()


@pytest.mark.parametrize("example", LINES[1::2], ids=LINES[::2])
def test_windows_over_midnight_and_clock_changes_open_and_close_as_written(example: str) -> None:
    given_, expected = example.split("=")
    hours, zone, not_before, before = given_.split()
    found = chain(window(hours), zone, not_before=utc(not_before), before=utc(before))
    assert ", ".join(f"{shown(opens)} > {shown(closes)}" for opens, closes in found) == expected.strip()


def shown(instant: datetime) -> str:
    """To the minute, where it has no seconds."""
    return f"{instant:%m-%d %H:%M:%S.%f}".removesuffix(".000000").removesuffix(":00")


def test_the_start_belongs_to_the_window_and_the_end_does_not() -> None:
    hours, zone = window("09:00-21:00"), zone_named("Europe/Moscow")
    open_at = {
        at: is_open(hours, zone, utc(f"2026-06-01T{at}"))
        for at in ("05:59:59.999999", "06:00:00", "17:59:59.999999", "18:00:00")
    }
    assert list(open_at.values()) == [False, True, True, False]


@pytest.mark.parametrize("hours", [None, window("00:00-23:59")])
def test_nothing_opens_when_the_end_is_not_after_the_beginning(hours: LocalWindow | None) -> None:
    now = utc("2026-06-01T12:00")
    for end in (now, utc("2026-06-01T11:00")):
        assert next_span(hours, "UTC", not_before=now, before=end) is None


def test_without_a_window_everything_until_the_end_is_open() -> None:
    now, end = utc("2026-06-01T12:00:00.5"), utc("2026-07-01T12:00")
    assert next_span(None, "Asia/Tokyo", not_before=now, before=end) == (now, end)
    assert is_open(None, zone_named("Asia/Tokyo"), now)


def test_an_end_thousands_of_years_away_costs_nothing() -> None:
    found = next_span(
        window("02:00-03:00"), "America/New_York", not_before=utc("2026-03-08T06:00"), before=utc("9999-12-31")
    )
    assert found == (utc("2026-03-09T06:00"), utc("2026-03-09T07:00"))


def test_instants_of_any_zone_are_compared_as_instants() -> None:
    berlin = zone_named("Europe/Berlin")
    first, second = (datetime(2026, 10, 25, 2, 10, tzinfo=berlin, fold=fold) for fold in (0, 1))
    span = next_span(window("02:00-02:30"), berlin.key, not_before=first, before=second)
    assert span == (utc("2026-10-25T00:10"), utc("2026-10-25T00:30"))
    assert {instant.tzinfo for instant in span} == {UTC}


def test_a_window_that_starts_where_it_ends_is_refused() -> None:
    with pytest.raises(ValueError, match="must differ"):
        window("09:00-09:00:00")


def test_a_window_with_a_zone_of_its_own_is_refused_also_in_json() -> None:
    with pytest.raises(msgspec.ValidationError, match="no zone of their own"):
        msgspec.json.decode(json.dumps({"start": "09:00:00Z", "end": "21:00:00Z"}), type=LocalWindow)


# --- zones ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["Europe/Moscow", "America/Argentina/Buenos_Aires", "Asia/Calcutta", "Etc/GMT-3", "UTC", "EST5EDT"]
)
def test_zones_and_links_of_the_database_are_known(name: str) -> None:
    assert known_zone(name)
    assert zone_named(name).key == name


@pytest.mark.parametrize(
    "name",
    [
        *("", "UTC+3", "+03:00", "MSK", "europe/moscow", "Europe", "Europe/Moscow ", "UTC\0", "Europe/../UTC"),
        *("localtime", "posixrules", "Factory", "posix/Europe/Moscow", "right/Europe/Moscow", "zone.tab"),
        *("../zones", "/etc/localtime"),
    ],
)
def test_what_only_some_machine_understands_is_no_zone(name: str) -> None:
    assert not known_zone(name)
    with pytest.raises(ZoneInfoNotFoundError):
        zone_named(name)


def test_etc_zones_have_the_sign_of_posix() -> None:
    assert is_open(window("03:00-03:01"), zone_named("Etc/GMT-3"), utc("2026-01-01T00:00"))


def test_every_known_zone_has_rules_in_the_package() -> None:
    assert len(ZONES) > 590
    assert all(zone_named(name).utcoffset(datetime(2026, 1, 1)) is not None for name in ZONES)  # noqa: DTZ001 - wall


# --- every zone, every change of offset -----------------------------------------------------------------------------


def offset(zone: ZoneInfo, second: int) -> timedelta | None:
    return datetime.fromtimestamp(second, zone).utcoffset()


def changes(zone: ZoneInfo, grid: range) -> list[range]:
    """Those steps of the grid over which the offset changes, each as its seconds from the old to the new offset."""
    offsets = pairwise([datetime.fromtimestamp(second, zone).utcoffset() for second in grid])
    return [range(end - grid.step, end + 1) for end, (old, new) in zip(grid[1:], offsets, strict=True) if old != new]


@cache
def transitions(name: str) -> list[int]:
    """Every second in 2000-2037 at which the offset changes, found by ever smaller steps."""
    found = [range(Y2000, Y2038 + 1)]
    for step in (2 * DAY, 6 * HOUR, HOUR, 10 * MINUTE, MINUTE, 10, 1):
        found = [part for whole in found for part in changes(zone_named(name), whole[::step])]
    return [step[-1] for step in found]


def rules(name: str) -> bytes:
    return files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()


@cache
def listed_transitions(name: str) -> list[int]:
    """Every change of offset that the zone's file lists, of all history, without the yearly rule at its end.

    Read by the layout of RFC 8536, so that what bisection might miss is seen.
    """
    data = rules(name)
    isut, isstd, leaps, old_times, old_kinds, chars = struct.unpack_from(">6l", data, 20)
    block = 44 + 5 * old_times + 6 * old_kinds + chars + 8 * leaps + isstd + isut  # the second one has 64 bits
    times, kinds = struct.unpack_from(">2l", data, block + 32)
    moments = struct.unpack_from(f">{times}q", data, block + 44)
    kind_of = struct.unpack_from(f">{times}B", data, block + 44 + 8 * times)
    offsets = [struct.unpack_from(">l", data, block + 44 + 9 * times + 6 * kind)[0] for kind in range(kinds)]
    seen = pairwise(offsets[kind] for kind in (0, *kind_of))
    return [moment for moment, (old, new) in zip(moments, seen, strict=True) if old != new]


@cache
def distinct_zones() -> list[str]:
    """One name of each set of links."""
    return sorted({rules(name): name for name in ZONES}.values())


def test_no_zone_has_ever_changed_its_offset_twice_in_less_than_six_days() -> None:
    for name in distinct_zones():
        listed, seen = listed_transitions(name), transitions(name)
        assert {second for second in listed if Y2000 < second <= Y2038} <= set(seen), name
        assert all(b - a >= 6 * DAY for a, b in pairwise(sorted({*listed, *seen}))), name


@pytest.mark.heavy
def test_every_transition_of_every_zone_agrees_with_a_clock_read_every_minute() -> None:
    """Transitions alike in both offsets and in local time of day are swept once: a window sees nothing else of a
    zone within the horizon, as the next transition is six days away or more.
    """
    kinds: dict[tuple[timedelta | None, timedelta | None, int], tuple[str, int]] = {}
    for name in distinct_zones():
        zone = zone_named(name)
        for at in transitions(name):
            kinds.setdefault((offset(zone, at - 1), offset(zone, at), wall_minute(zone, at // MINUTE)), (name, at))
    assert len(kinds) > 140
    for name, at in kinds.values():
        sweep(zone_named(name), at)


def sweep(zone: ZoneInfo, at: int) -> None:
    assert at % MINUTE == 0
    horizon = range(at // MINUTE - 36 * 60, at // MINUTE + 36 * 60)
    walls = [wall_minute(zone, minute) for minute in horizon]
    before, after = walls[36 * 60 - 1], walls[36 * 60]
    beside = {(wall + minutes) % 1440 for wall in (before, after) for minutes in (-20, 0, 1)}
    for start, end in permutations(beside | {0, 9 * 60, 21 * 60}, 2):
        hours = LocalWindow(time(*divmod(start, 60)), time(*divmod(end, 60)))
        found = chain(hours, zone.key, not_before=instant(horizon.start), before=instant(horizon.stop))
        allowed = [(wall - start) % 1440 < (end - start) % 1440 for wall in walls]
        assert list(found) == open_runs(horizon, allowed), (zone.key, instant(at // MINUTE), hours)


def instant(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * MINUTE, UTC)


def wall_minute(zone: ZoneInfo, minute: int) -> int:
    wall = datetime.fromtimestamp(minute * MINUTE, zone)
    return wall.hour * 60 + wall.minute


def open_runs(horizon: range, allowed: list[bool]) -> list[Span]:
    turns = pairwise([False, *allowed, False])
    edges = [instant(horizon.start + index) for index, (old, new) in enumerate(turns) if old is not new]
    return list(zip(edges[::2], edges[1::2], strict=True))


class Case(NamedTuple):
    unit: timedelta
    hours: LocalWindow
    zone: ZoneInfo
    not_before: datetime
    before: datetime


UNITS = st.sampled_from([(timedelta(minutes=1), transitions), (SECOND, listed_transitions)])
NAMES = st.deferred(lambda: st.sampled_from(distinct_zones()))
BEFORE_OR_AT = st.booleans()
EDGES = st.tuples(st.integers(-1440, 1440), st.integers(-1440, 1440))
FRACTIONS = st.sampled_from([timedelta(microseconds=count) for count in (0, 1, 999_999)])
SINCE, LENGTH = st.integers(-2160, 2160), st.integers(0, 2160)


@cache
def moments(listing: Callable[[str], list[int]], name: str) -> st.SearchStrategy[int]:
    return st.sampled_from([Y2000, *listing(name)])


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a window and instants within 1,440 and 2,160 units of a change of offset: with seconds, of all history."""
    unit, listing = draw(UNITS)
    name = draw(NAMES)
    zone, at = zone_named(name), EPOCH + draw(moments(listing, name)) * SECOND
    wall = datetime.combine(EPOCH, (at - unit * draw(BEFORE_OR_AT)).astimezone(zone).time())
    start, end = (edge * unit for edge in draw(EDGES))
    assume((start - end) % timedelta(days=1))
    not_before = at + draw(SINCE) * unit + draw(FRACTIONS)
    before = not_before + draw(LENGTH) * unit
    return Case(unit, LocalWindow((wall + start).time(), (wall + end).time()), zone, not_before, before)


@settings(max_examples=1_000)
@given(cases())
def test_the_next_window_is_the_one_found_by_asking_minute_by_minute_or_second_by_second(case: Case) -> None:
    found = next_span(case.hours, case.zone.key, not_before=case.not_before, before=case.before)
    assert found == span_by_asking(case)


def span_by_asking(case: Case) -> Span | None:
    asked = ((at, is_open(case.hours, case.zone, at)) for at in ticks(case))
    opens_at = next((at for at, allowed in asked if allowed), None)
    closes_at = next((at for at, allowed in asked if not allowed), case.before)
    return None if opens_at is None else (opens_at, closes_at)


def ticks(case: Case) -> Iterator[datetime]:
    """Give the first instant, then every whole unit of UTC: nothing can change in between."""
    at = case.not_before
    while at < case.before:
        yield at
        at += case.unit - (at - EPOCH) % case.unit

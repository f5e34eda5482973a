from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailing.reports.schedule import Day, day_of, days_after, due_at, first_instant, newest_over

NINE = time(9)
DAY = timedelta(days=1)
CHANGES = [  # zone, a day beside a change of its clocks
    ("America/Sao_Paulo", date(2018, 11, 4)),  # no midnight: 00:00 became 01:00
    ("Africa/Cairo", date(2023, 4, 28)),  # no midnight
    ("Africa/Cairo", date(2023, 10, 26)),  # 24:00 became 23:00
    ("Asia/Beirut", date(2024, 3, 31)),  # no midnight
    ("America/Havana", date(2023, 11, 5)),  # midnight twice: 01:00 became 00:00
    ("America/St_Johns", date(2010, 11, 7)),  # 00:01 became 23:01 of the day before
    ("Pacific/Apia", date(2011, 12, 30)),  # a day that never was
    ("Australia/Lord_Howe", date(2024, 4, 7)),  # half an hour
    ("Europe/Moscow", date(2024, 1, 5)),
]


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "day", "starts", "ends"),
    [
        ("Europe/Moscow", date(2024, 1, 5), utc(2024, 1, 4, 21), utc(2024, 1, 5, 21)),
        ("America/Sao_Paulo", date(2018, 11, 4), utc(2018, 11, 4, 3), utc(2018, 11, 5, 2)),
        ("America/Sao_Paulo", date(2018, 11, 3), utc(2018, 11, 3, 3), utc(2018, 11, 4, 3)),
        ("Africa/Cairo", date(2023, 4, 28), utc(2023, 4, 27, 22), utc(2023, 4, 28, 21)),
        ("Africa/Cairo", date(2023, 10, 26), utc(2023, 10, 25, 21), utc(2023, 10, 26, 22)),
        ("Asia/Beirut", date(2024, 3, 31), utc(2024, 3, 30, 22), utc(2024, 3, 31, 21)),
        ("America/Havana", date(2023, 11, 5), utc(2023, 11, 5, 4), utc(2023, 11, 6, 5)),
        ("Pacific/Apia", date(2011, 12, 30), utc(2011, 12, 30, 10), utc(2011, 12, 30, 10)),
    ],
)
def test_a_day_lasts_from_midnight_to_midnight_also_where_midnight_is_missing(
    zone: str, day: date, starts: datetime, ends: datetime
) -> None:
    found = day_of(day, ZoneInfo(zone))
    assert (found.starts, found.ends) == (starts, ends)


@pytest.mark.parametrize(("zone", "day"), CHANGES)
def test_days_follow_each_other_without_gap_and_overlap(zone: str, day: date) -> None:
    days = [day_of(day + n * DAY, ZoneInfo(zone)) for n in range(-2, 4)]
    assert all(before.ends == after.starts for before, after in pairwise(days))


@settings(max_examples=60)
@given(change=st.sampled_from(CHANGES), minutes=st.integers(0, 3 * 1440 - 1))
def test_the_first_instant_is_the_first_minute_whose_wall_time_is_late_enough(
    change: tuple[str, date], minutes: int
) -> None:
    zone, day = ZoneInfo(change[0]), change[1]
    wall = datetime.combine(day - DAY, time.min) + timedelta(minutes=minutes)
    instant = first_instant(wall, zone)

    def shows(at: datetime) -> datetime:
        return at.astimezone(zone).replace(tzinfo=None)

    assert shows(instant) >= wall
    assert all(shows(instant - n * timedelta(minutes=1)) < wall for n in range(1, 26 * 60))


@pytest.mark.parametrize(
    ("zone", "day", "clock", "due"),
    [
        ("Europe/Moscow", date(2024, 1, 5), NINE, utc(2024, 1, 6, 6)),
        ("America/New_York", date(2024, 3, 9), time(2, 30), utc(2024, 3, 10, 7)),  # 02:30 is skipped
        ("America/New_York", date(2024, 11, 2), time(1, 30), utc(2024, 11, 3, 5, 30)),  # the first 01:30
        ("America/Sao_Paulo", date(2018, 11, 3), time(0, 0), utc(2018, 11, 4, 3)),
        ("Pacific/Apia", date(2011, 12, 29), NINE, utc(2011, 12, 30, 19)),  # there was no next day but one
    ],
)
def test_a_report_is_due_when_the_clock_of_the_next_day_first_shows_its_time(
    zone: str, day: date, clock: time, due: datetime
) -> None:
    assert due_at(day_of(day, ZoneInfo(zone)).ends, ZoneInfo(zone), clock) == due


@settings(max_examples=60)
@given(change=st.sampled_from(CHANGES), minutes=st.integers(-3000, 3000))
def test_the_newest_day_over_has_ended_and_the_next_one_has_not(change: tuple[str, date], minutes: int) -> None:
    zone = ZoneInfo(change[0])
    now = day_of(change[1], zone).starts + timedelta(minutes=minutes)
    newest = newest_over(now, zone)
    assert day_of(newest, zone).ends <= now < day_of(newest + DAY, zone).ends


def test_days_that_never_were_need_no_report() -> None:
    apia = ZoneInfo("Pacific/Apia")
    days = list(islice(days_after(day_of(date(2011, 12, 28), apia), apia), 4))
    assert [day.date.day for day in days] == [29, 31, 1, 2]
    assert all(day.is_local_day for day in days)
    due = [due_at(day.ends, apia, NINE) for day in days]
    assert all(before < after for before, after in pairwise(due))


ZONES = st.sampled_from([*{zone for zone, _ in CHANGES}, "Pacific/Auckland", "Pacific/Kiritimati", "Etc/GMT+12", "UTC"])


@settings(max_examples=100)
@given(change=st.sampled_from(CHANGES), zones=st.lists(ZONES, min_size=1, max_size=6), kept=st.integers(1, 3))
def test_whatever_zone_comes_next_a_period_begins_where_the_last_one_ended_and_no_date_comes_twice(
    change: tuple[str, date], zones: list[str], kept: int
) -> None:
    periods = [day_of(change[1] - 2 * DAY, ZoneInfo(change[0]))]
    for zone in zones:
        periods += islice(days_after(periods[-1], ZoneInfo(zone)), kept)
    for before, after in pairwise(periods):
        assert before.ends == after.starts < after.ends
        assert before.date < after.date
        assert after.ends == day_of(after.date, ZoneInfo(after.zone)).ends
        assert after.ends - after.starts <= timedelta(hours=51)


def test_the_rest_of_a_date_that_was_reported_belongs_to_the_next_one() -> None:
    told = day_of(date(2026, 12, 29), ZoneInfo("Pacific/Auckland"))
    first, second = islice(days_after(told, ZoneInfo("America/New_York")), 2)
    assert first == Day(date(2026, 12, 30), "America/New_York", utc(2026, 12, 29, 11), utc(2026, 12, 31, 5))
    assert (told.is_local_day, first.is_local_day, second.is_local_day) == (True, False, True)


def test_a_zone_further_east_makes_the_first_period_shorter() -> None:
    told = day_of(date(2026, 12, 29), ZoneInfo("America/New_York"))
    first = next(days_after(told, ZoneInfo("Pacific/Auckland")))
    assert first == Day(date(2026, 12, 30), "Pacific/Auckland", utc(2026, 12, 30, 5), utc(2026, 12, 30, 11))

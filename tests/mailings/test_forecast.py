from datetime import UTC, datetime, time, timedelta

from hypothesis import given
from hypothesis import strategies as st

from mailing.mailings.forecast import HORIZON, Forecast, Period, forecast
from mailing.mailings.window import LocalWindow, next_window
from mailing.reasons.codes import Reason, ReasonCode

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
HOURS = LocalWindow(time(9), time(21))

walls = st.builds(time, st.integers(0, 23), st.sampled_from([0, 15, 30]))
windows = st.none() | st.tuples(walls, walls).filter(lambda pair: pair[0] != pair[1]).map(lambda p: LocalWindow(*p))
names = st.sampled_from(
    ["UTC", "Europe/Moscow", "Asia/Kolkata", "America/New_York", "Pacific/Apia", "Asia/Vladivostok"]
)
audiences = st.dictionaries(names, st.integers(1, 5000), min_size=1)
terms = st.builds(
    lambda begin, lasts, window: Period(begin, begin + lasts, window),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)).map(lambda naive: naive.replace(tzinfo=UTC)),  # noqa: DTZ001 - hypothesis bounds are naive
    st.timedeltas(timedelta(minutes=1), timedelta(days=20)),
    windows,
)
paces = st.none() | st.floats(0.01, 100)


def sums(found: Forecast) -> list[int]:
    return [sum(zones.values()) for zones in found.hours.values()]


def test_without_a_window_all_leave_in_turn_at_the_rate() -> None:
    found = forecast({"UTC": 9000, "Europe/Moscow": 9000}, Period(NOON, NOON + DAY, None), per_second=2)
    assert found.hours == {
        NOON: {"Europe/Moscow": 3600, "UTC": 3600},
        NOON + HOUR: {"Europe/Moscow": 3600, "UTC": 3600},
        NOON + 2 * HOUR: {"Europe/Moscow": 1800, "UTC": 1800},
    }
    assert found.done_at == NOON + timedelta(hours=2, minutes=30)


def test_the_time_of_the_last_one_does_not_depend_on_where_the_hours_begin() -> None:
    begin = NOON + timedelta(minutes=50, seconds=7)
    found = forecast({"UTC": 20}, Period(begin, NOON + DAY, None), per_second=0.01)
    assert found.done_at is not None
    assert abs(found.done_at - begin - timedelta(seconds=2000)) < timedelta(milliseconds=1)


def test_whoever_became_due_first_goes_first() -> None:
    """In New York the window opens at 13:00 UTC: an hour later than the mailing begins."""
    found = forecast({"UTC": 5000, "America/New_York": 5000}, Period(NOON, NOON + DAY, HOURS), per_second=1)
    assert list(found.hours.values()) == [
        {"UTC": 3600},
        {"America/New_York": 2200, "UTC": 1400},
        {"America/New_York": 2800},
    ]


def test_what_the_evening_leaves_behind_goes_on_in_the_morning_and_the_end_makes_it_too_late() -> None:
    term = Period(NOON, datetime(2026, 6, 2, 10, tzinfo=UTC), HOURS)
    found = forecast({"UTC": 50_000}, term, per_second=1)
    assert sums(found) == [3600] * 10
    assert list(found.hours)[8:] == [datetime(2026, 6, 1, 20, tzinfo=UTC), datetime(2026, 6, 2, 9, tzinfo=UTC)]
    assert (found.too_late, found.no_window, found.after_horizon, found.done_at) == (14_000, 0, 0, None)


def test_a_zone_without_an_opening_before_the_end_is_told_with_the_reason() -> None:
    found = forecast({"UTC": 3, "Asia/Vladivostok": 4}, Period(NOON, NOON + HOUR, HOURS), per_second=1)
    reasons = {start.timezone: start.reason for start in found.starts}
    assert reasons == {
        "UTC": None,
        "Asia/Vladivostok": Reason(
            ReasonCode.no_window, {"timezone": "Asia/Vladivostok", "start": "09:00", "end": "21:00"}
        ),
    }
    assert (found.no_window, found.too_late) == (4, 0)


def test_without_a_known_rate_everything_is_told_under_the_hour_in_which_it_becomes_due() -> None:
    found = forecast({"UTC": 1_000_000, "America/New_York": 5}, Period(NOON, NOON + DAY, HOURS), per_second=None)
    assert found.hours == {NOON: {"UTC": 1_000_000}, NOON + HOUR: {"America/New_York": 5}}
    assert found.done_at is None


def test_what_is_left_at_the_horizon_is_told_and_not_followed() -> None:
    found = forecast({"UTC": 1_000_000}, Period(NOON, NOON + timedelta(days=30_000), None), per_second=0.001)
    assert found.after_horizon == 1_000_000 - sum(sums(found))
    assert (found.too_late, found.done_at) == (0, None)


@given(audiences, terms, paces)
def test_each_recipient_is_told_once(zones: dict[str, int], term: Period, pace: float | None) -> None:
    found = forecast(zones, term, per_second=pace)
    assert sum(sums(found)) + found.no_window + found.too_late + found.after_horizon == sum(zones.values())
    assert found.after_horizon == 0 or term.end > term.begin + HORIZON


@given(audiences, terms, paces)
def test_no_hour_holds_more_than_the_rate(zones: dict[str, int], term: Period, pace: float | None) -> None:
    found = forecast(zones, term, per_second=pace)
    if pace is not None:
        assert all(count <= pace * 3600 + 1 for count in sums(found))
        assert found.done_at is None or term.begin <= found.done_at <= term.end


@given(audiences, terms, paces)
def test_a_zone_sends_only_in_hours_in_which_it_is_open(
    zones: dict[str, int], term: Period, pace: float | None
) -> None:
    for at, sent in forecast(zones, term, per_second=pace).hours.items():
        begin, end = max(at, term.begin), min(at + HOUR, term.end)
        assert min(sent.values()) > 0
        for zone in sent:
            assert next_window(zone, term.window, not_before=begin, before=end).opens_at

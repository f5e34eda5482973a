from datetime import UTC, datetime, time, timedelta

from mailing.mailings.window import LocalWindow, next_window
from mailing.reasons.codes import Reason, ReasonCode, words_of

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
END = NOON + timedelta(days=2)
HOURS = LocalWindow(time(9), time(21))


def test_no_opening_before_the_end_says_so() -> None:
    found = next_window("Asia/Vladivostok", HOURS, not_before=NOON, before=NOON + timedelta(hours=1))
    assert found.opens_at is None
    assert words_of(found.reason) == "no time within 09:00-21:00 in Asia/Vladivostok is left before the mailing's end"


def test_a_zone_nobody_knows_any_more_is_never_sent_to_by_guess_but_needs_none_without_a_window() -> None:
    found = next_window("Moon/Base", HOURS, not_before=NOON, before=END)
    assert words_of(found.reason) == "the local hours of Moon/Base are not known"
    assert next_window("Moon/Base", None, not_before=NOON, before=END).opens_at == NOON


def test_behind_the_end_there_is_no_opening_at_all() -> None:
    assert next_window("UTC", None, not_before=END, before=END).reason == Reason(ReasonCode.end_reached)

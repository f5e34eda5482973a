import pytest

from mailing.clients.timezone import suggestion


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("UTC+3", "Etc/GMT-3"),
        ("GMT-05:00", "Etc/GMT+5"),
        ("+03", "Etc/GMT-3"),
        ("utc +0", "Etc/UTC"),
        ("UTC\u221211", "Etc/GMT+11"),
        ("europe/moscow", "Europe/Moscow"),
        ("Moscow", "Europe/Moscow"),
        ("new york", "America/New_York"),
        ("utc", "UTC"),
    ],
)
def test_a_wrong_zone_is_answered_with_the_name_to_write(name: str, instead: str) -> None:
    assert instead in suggestion(name).words()


@pytest.mark.parametrize("name", ["", "\x00", "UTC+99", "Moon/Base", "MSK", "posix/Europe/Moscow", "\u0663"])
def test_where_nothing_is_close_the_rule_is_named_and_the_word_not_repeated(name: str) -> None:
    assert suggestion(name).words().startswith("must be an IANA time zone, such as Europe/Moscow")
    assert not name or name not in suggestion(name).words()

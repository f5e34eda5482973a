import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailing.mailings.sms_segments import segments_of


@pytest.mark.parametrize(
    ("text", "encoding", "segments", "left"),
    [
        ("a" * 160, "gsm7", 1, 0),
        ("a" * 161, "gsm7", 2, 145),
        ("a" * 306, "gsm7", 2, 0),
        ("a" * 307, "gsm7", 3, 152),
        ("€" * 80, "gsm7", 1, 0),
        ("я" * 70, "ucs2", 1, 0),
        ("я" * 71, "ucs2", 2, 63),
        ("я" * 134, "ucs2", 2, 0),
        ("я" * 135, "ucs2", 3, 66),
    ],
)
def test_one_sms_holds_more_than_each_of_several(text: str, encoding: str, segments: int, left: int) -> None:
    found = segments_of(text)
    assert (found.encoding, found.segments, found.units_left) == (encoding, segments, left)


def test_a_character_of_two_units_is_never_split_over_two_segments() -> None:
    euro = segments_of("a" * 152 + "€" + "a" * 10)
    assert (euro.units, euro.segments, euro.units_left) == (164, 2, 153 - 12)
    emoji = segments_of("я" * 66 + "🍂" + "я" * 10)
    assert (emoji.characters, emoji.units, emoji.segments, emoji.units_left) == (77, 78, 2, 67 - 12)


def test_the_characters_that_force_ucs_2_are_named_once_with_what_could_stand_for_them() -> None:
    found = segments_of("“Sale” – only today… São Paulo ж")  # noqa: RUF001 - that dash
    assert [(each.character, each.replacement) for each in found.forced_by] == [
        ("“", '"'),
        ("”", '"'),
        ("–", "-"),  # noqa: RUF001 - the dash that is not a hyphen
        ("…", "..."),
        ("ã", "a"),
        ("ж", None),
    ]
    assert found.forced_by[-1].name == "CYRILLIC SMALL LETTER ZHE"


def test_what_nobody_sees_may_be_left_out() -> None:
    invisible = "\u200b\u200e\u200f\u202e\u202c\u2066\u2069\ufe0e\ufe0f\ufeff\u00ad"
    assert [each.replacement for each in segments_of(f"vip{invisible}").forced_by] == [""] * len(invisible)


@given(st.text(max_size=400))
def test_the_replacements_are_all_in_gsm_7(text: str) -> None:
    plain = text
    for each in segments_of(text).forced_by:
        plain = plain.replace(each.character, each.replacement or "")
    assert segments_of(plain).encoding == "gsm7"


@given(st.text(max_size=400))
def test_every_unit_has_its_place(text: str) -> None:
    found = segments_of(text)
    alone, each = (160, 153) if found.encoding == "gsm7" else (70, 67)
    room = alone if found.segments == 1 else found.segments * each
    assert 0 <= room - found.units_left - found.units < found.segments

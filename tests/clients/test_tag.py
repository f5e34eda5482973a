import re
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mailing.clients.tag import PATTERN, is_tag, normalised_tag
from mailing.reasons.refusals import MAX_TAG_LENGTH


@pytest.mark.parametrize("tag", ["vip", "новый клиент", "a,b", 'a"b', "a\\b", "é́", "👩‍👩‍👧", "⭐", "x" * 100])
def test_a_tag_may_be_any_text_that_can_be_seen(tag: str) -> None:
    assert is_tag(tag)


@pytest.mark.parametrize(
    ("given", "tag"),
    [
        ("Ю\u0436ны\u0438\u0306", "Южный"),
        (" vip ", "vip"),
        ("vip\u00a0", "vip"),
        ("a\u00a0b", "a b"),
        ("a  b", "a b"),
        ("a \u2003b", "a b"),
        ("⭐\ufe0f", "⭐"),
        ("vip\n", "vip"),
    ],
)
def test_tags_that_look_the_same_are_one_tag(given: str, tag: str) -> None:
    assert normalised_tag(given) == tag
    assert not is_tag(given)


@pytest.mark.parametrize(
    ("tag", "named"),
    [
        ("vip\u200b", "ZERO WIDTH SPACE (U+200B)"),
        ("\u200b", "ZERO WIDTH SPACE (U+200B)"),
        ("\u202evip", "RIGHT-TO-LEFT OVERRIDE (U+202E)"),
        ("vi\u00adp", "SOFT HYPHEN (U+00AD)"),
        ("v\u200dip", "ZERO WIDTH JOINER (U+200D)"),
        ("\ufeffvip", "ZERO WIDTH NO-BREAK SPACE (U+FEFF)"),
        ("a\u3164b", "HANGUL FILLER (U+3164)"),
        ("a\x00", "U+0000"),
        ("a\nb", "U+000A"),
        ("a\tb", "U+0009"),
        ("a\x85b", "U+0085"),
        ("a\u2028b", "LINE SEPARATOR"),
        ("\ud800", "U+D800"),
        ("a\U000e0041", "TAG LATIN CAPITAL LETTER A (U+E0041)"),
    ],
)
def test_an_invisible_character_is_rejected_by_its_name(tag: str, named: str) -> None:
    with pytest.raises(ValueError, match="visible characters") as refused:
        normalised_tag(tag)
    assert named in str(refused.value)


# Unicode's Default_Ignorable_Code_Point, without the variation selectors of emoji, and its noncharacters
UNSEEN = [
    *(0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFEFF, 0xFFA0),
    *(*range(0x180B, 0x1810), *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070)),
    *(*range(0xFE00, 0xFE0E), *range(0xFFF0, 0xFFF9), *range(0x1BCA0, 0x1BCA4), *range(0x1D173, 0x1D17B)),
    *(*range(0xE0000, 0xE1000), *range(0xFDD0, 0xFDF0)),
    *(plane << 16 | last for plane in range(17) for last in (0xFFFE, 0xFFFF)),
]


def test_no_character_that_unicode_lets_a_font_leave_out_makes_a_second_tag() -> None:
    assert [hex(code) for code in UNSEEN if is_tag(f"vi{chr(code)}p")] == []


@pytest.mark.parametrize("tag", ["", " ", "\u00a0", "x" * 101, "\ufe0f"])
def test_a_tag_has_1_to_100_characters(tag: str) -> None:
    with pytest.raises(ValueError, match=r"1 to 100 visible characters$"):
        normalised_tag(tag)


@given(st.text(max_size=20))
def test_the_one_form_of_a_tag_is_its_own_form_and_holds_nothing_invisible(text: str) -> None:
    try:
        tag = str(normalised_tag(text))
    except ValueError:
        return
    assert is_tag(tag)
    assert unicodedata.is_normalized("NFC", tag)
    assert {unicodedata.category(sign) for sign in tag}.isdisjoint({"Cc", "Cs", "Zl", "Zp"})


@given(st.from_regex(re.compile(PATTERN), alphabet=st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"])))
def test_what_the_documented_pattern_matches_is_a_tag(text: str) -> None:
    assume(len(text) <= MAX_TAG_LENGTH)
    assert str(normalised_tag(text))

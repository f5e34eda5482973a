import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailing.clients.phone import is_operator_code, is_phone, operator_code_of

DIGITS = st.text("0123456789", min_size=10, max_size=10)


@given(DIGITS)
def test_seven_and_ten_digits_are_a_phone_and_its_operator_code_follows_the_seven(digits: str) -> None:
    assert is_phone(f"7{digits}")
    assert operator_code_of(f"7{digits}") == digits[:3]


@given(st.text())
def test_nothing_else_is_a_phone(text: str) -> None:
    right = len(text) == 11 and text[0] == "7" and all(sign in "0123456789" for sign in text)
    assert bool(is_phone(text)) == right


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7916123456",
        "791612345678",
        "89161234567",
        "+79161234567",
        "7 916 123 45 67",
        "7(916)1234567",
        "7916-123-45-67",
        " 79161234567",
        "79161234567\n",
        "7916123456\x00",
        "7\u0669\u0661\u0666\u0661\u0662\u0663\u0664\u0665\u0666\u0667",
        "791612345\u096c7",
        "7.91612E+10",
    ],
)
def test_what_people_write_for_a_phone_is_not_mended(text: str) -> None:
    assert not is_phone(text)


@pytest.mark.parametrize("text", ["", "91", "9160", "9a6", "\u0669\u0661\u0666", "916\n", "+16", " 916"])
def test_an_operator_code_is_three_ascii_digits(text: str) -> None:
    assert is_operator_code("916")
    assert not is_operator_code(text)

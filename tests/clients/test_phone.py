import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailing.clients.phone import is_operator_code, is_phone, normalised_phone, operator_code_of

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
        *("79161234567", "+79161234567", "89161234567", "9161234567", "+7 (916) 123-45-67", "8 (916) 123 45 67"),
        *("8-916-123-45-67", "7.916.123.45.67", " 79161234567\n", "+7\u00a0916\u00a0123\u201345\u201367"),
        *("\u202a+79161234567\u202c", "\ufeff79161234567\u200b"),
        "\uff18\uff19\uff11\uff16\uff11\uff12\uff13\uff14\uff15\uff16\uff17",
        *("7.9161234567E+10", "7,9161234567e10", "79161234567.0", "'79161234567", "\u20198 (916) 123-45-67"),
        *('="79161234567"', "tel:+7-916-123-45-67", "00 7 916 123-45-67", 79161234567),
    ],
)
def test_a_phone_as_people_and_programs_write_it_is_rewritten(text: object) -> None:
    assert normalised_phone(text) == "79161234567"


CAUSES: dict[str, list[object]] = {
    "such as 79161234567": [
        *("", "call me", "7916123456\x00", "7\u0669\u0661\u0666\u0661\u0662\u0663\u0664\u0665\u0666\u0667"),
        *("791612345\u096c7", "79161234567 ext. 1", "79161234567, 79031234567", "'", "=79161234567+1", "7" * 101),
    ],
    "this has 10 digits": ["7916123456"],
    "this has 12 digits": ["791612345678"],
    "this has 4 digits": [7916, 9161],
    "this has 14 digits": [-79161234567890],
    "a spreadsheet has rounded this number": ["7.91612E+10", "7,9E+10", "8E+10"],
    "a number of another country": [*("+380501234567", "+89161234567", "19161234567", "00380501234567", "+9161234567")],
}


@pytest.mark.parametrize(("text", "cause"), [(text, cause) for cause, texts in CAUSES.items() for text in texts])
def test_a_phone_that_would_be_a_guess_is_rejected_with_the_cause(text: object, cause: str) -> None:
    with pytest.raises(ValueError, match="must be a Russian phone") as refused:
        normalised_phone(text)
    assert cause in str(refused.value)


@pytest.mark.parametrize("value", [None, True, 7.5, ["79161234567"], {}])
def test_what_is_neither_text_nor_a_whole_number_is_left_to_the_check_of_types(value: object) -> None:
    assert normalised_phone(value) is value


@given(st.text())
def test_a_rewritten_phone_is_a_phone_whatever_was_given(text: str) -> None:
    try:
        rewritten = str(normalised_phone(text))
    except ValueError:
        return
    assert is_phone(rewritten)


@pytest.mark.parametrize("text", ["", "91", "9160", "9a6", "\u0669\u0661\u0666", "916\n", "+16", " 916"])
def test_an_operator_code_is_three_ascii_digits(text: str) -> None:
    assert is_operator_code("916")
    assert not is_operator_code(text)

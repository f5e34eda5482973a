"""A phone is stored as 7XXXXXXXXXX: eleven ASCII digits, a Russian number with its country code.

People write it as `+7 (916) 123-45-67`, `8 916 …`, `916…` or `'7916…`, and spreadsheets add invisible characters.
Those forms name exactly one number, so they are rewritten. A number that a spreadsheet has rounded, or one of another
country, is rejected with the cause: a wrong guess is a message to a stranger.
"""

import re
import unicodedata

from mailing.reasons.refusals import RefusalCode, RefusedValueError

LENGTH = 11
MAX_INPUT = 100  # characters of a phone as people write it
PATTERN = "^7[0-9]{10}$"  # of a stored phone

OPERATOR_CODE_PATTERN = "^[0-9]{3}$"
OPERATOR_CODE_LENGTH = 3

# fullmatch, because `$` alone lets a line break follow
is_phone = re.compile("7[0-9]{10}").fullmatch
is_operator_code = re.compile("[0-9]{3}").fullmatch

_ZERO_FRACTION = re.compile(r"([0-9]{10,11})[.,]0+").fullmatch  # 79161234567.0, a number read as a decimal fraction
_SCIENTIFIC = re.compile(r"([0-9])(?:[.,]([0-9]+))?E\+?([0-9]{1,2})", re.IGNORECASE).fullmatch
# how people make a spreadsheet leave a number alone, and how web pages link it
_AS_TEXT = re.compile('[\'\u2019](.+)|="(.+)"|tel:(.+)', re.IGNORECASE | re.DOTALL).fullmatch
_PUNCTUATION = re.compile(r"[\s().\-\u2010-\u2015\u2212/]+")


def operator_code_of(phone: str) -> str:
    return phone[1:4]


def normalised_phone(given: object) -> object:
    """Rewrite a phone as people write it into 7XXXXXXXXXX. Raises RefusedValueError.

    A JSON number counts as its digits. What is neither text nor a number is returned as it is.
    """
    if isinstance(given, int) and not isinstance(given, bool):
        given = str(given)
    if not isinstance(given, str) or is_phone(given):
        return given
    return _rewritten(given)


def _rewritten(given: str) -> str:
    if len(given) > MAX_INPUT:
        raise RefusedValueError(RefusalCode.phone)
    text = "".join(sign for sign in unicodedata.normalize("NFKC", given) if unicodedata.category(sign) != "Cf").strip()
    if marked := _AS_TEXT(text):
        text = "".join(marked.groups(default=""))
    if number := _SCIENTIFIC(text):
        text = _unrounded(*number.groups(default=""))
    elif number := _ZERO_FRACTION(text):
        text = number[1]
    digits = _PUNCTUATION.sub("", text)
    has_plus = digits.startswith("+")
    if digits.startswith("00"):  # as a call from abroad is dialled
        has_plus, digits = True, digits[2:]
    digits = digits.removeprefix("+")
    if not (digits.isascii() and digits.isdigit()):
        raise RefusedValueError(RefusalCode.phone)
    if len(digits) == LENGTH and (digits[0] == "7" or (digits[0] == "8" and not has_plus)):
        return "7" + digits[1:]
    if len(digits) == LENGTH - 1 and digits[0] == "9" and not has_plus:
        return "7" + digits
    if len(digits) == LENGTH or has_plus:
        raise RefusedValueError(RefusalCode.phone_abroad)
    raise RefusedValueError(RefusalCode.phone_length, count=len(digits))


def _unrounded(whole: str, fraction: str, exponent: str) -> str:
    """Write a number such as 7.9161234567E+10 in full. Raises RefusedValueError if it has fewer digits than a phone."""
    fraction, places = fraction.rstrip("0"), int(exponent)
    digits = whole + fraction.ljust(places, "0") if len(fraction) <= places < LENGTH else ""
    if len(fraction) < places - 2:
        raise RefusedValueError(RefusalCode.phone_rounded)
    return digits

"""Count the SMS segments of a text: GSM-7 (3GPP TS 23.038), or UCS-2 as soon as one character is not in GSM-7."""

import unicodedata
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from mailing.gsm7 import GSM7_EXTENDED, is_gsm7

# Characters that typesetting and copying bring in, and their GSM-7 replacement.
_REPLACEMENTS = {
    character: replacement
    for characters, replacement in (
        ("“”„‟«»″", '"'),
        ("‘’‚‛′`´", "'"),  # noqa: RUF001 - the look-alikes are the point
        ("–—―‒‐‑−", "-"),  # noqa: RUF001 - the look-alikes are the point
        ("\t\u00a0\u2002\u2003\u2009\u202f", " "),
        ("•·", "*"),
        ("…", "..."),
        ("№", "No."),
        ("×", "x"),  # noqa: RUF001 - the look-alikes are the point
        ("\u2028\u2029", "\n"),
    )
    for character in characters
}

_VARIATION_SELECTORS = "\ufe0e\ufe0f"

Encoding = Literal["gsm7", "ucs2"]
# units of a single SMS, and of each segment of a longer text
_ROOM: dict[Encoding, tuple[int, int]] = {"gsm7": (160, 153), "ucs2": (70, 67)}


class NonGsmCharacter(Struct, frozen=True):
    """A character outside GSM-7 and its replacement in GSM-7, null without one."""

    character: str
    name: str
    replacement: str | None


class Segments(Struct, frozen=True):
    """The size of a text. A character takes one or two units; `units_left` still fit without another segment."""

    encoding: Encoding
    characters: int
    units: int
    segments: int
    units_left: int
    forced_by: list[NonGsmCharacter]


def segments_of(text: str) -> Segments:
    """Count the segments of a text. A character is never split over two segments."""
    outside = [character for character in dict.fromkeys(text) if not is_gsm7(character)]
    encoding: Encoding = "ucs2" if outside else "gsm7"
    widths = [_width(character, encoding) for character in text]
    count, left = _packed(widths, room=_ROOM[encoding])
    return Segments(encoding, len(text), sum(widths), count, left, [_outside_gsm7(character) for character in outside])


def _width(character: str, encoding: Encoding) -> int:
    if encoding == "ucs2":
        return 2 if ord(character) > 0xFFFF else 1  # a surrogate pair
    return 2 if character in GSM7_EXTENDED else 1


def _packed(widths: Sequence[int], *, room: tuple[int, int]) -> tuple[int, int]:
    """Return the number of segments and the units left in the last one."""
    single, each = room
    if sum(widths) <= single:
        return 1, single - sum(widths)
    count, left = 1, each
    for width in widths:
        if width > left:
            count, left = count + 1, each
        left -= width
    return count, left


def _outside_gsm7(character: str) -> NonGsmCharacter:
    name = unicodedata.name(character, f"U+{ord(character):04X}")
    return NonGsmCharacter(character, name, _REPLACEMENTS.get(character, _plain(character)))


def _plain(character: str) -> str | None:
    """Strip accents and take the ordinary form of a full-width character: á → a, Ａ → A. Empty for an invisible one."""  # noqa: RUF002 - a full-width A
    if unicodedata.category(character) == "Cf" or character in _VARIATION_SELECTORS:
        return ""
    letters = [part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part)]
    return "".join(letters) if letters and all(map(is_gsm7, letters)) else None

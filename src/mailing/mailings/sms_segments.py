"""How many SMS a text takes: 3GPP TS 23.038 (GSM-7), and UCS-2 as soon as one character is not in it."""

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = frozenset("\f^{}\\[~]|€")  # two units each

# What typesetting and copying bring in, and what says the same; the empty string: nobody sees it.
_REPLACEMENTS = {
    character: replacement
    for characters, replacement in (
        ("“”„‟«»″", '"'),
        ("‘’‚‛′`´", "'"),  # noqa: RUF001 - the look-alikes are the point
        ("–—―‒‐‑−", "-"),  # noqa: RUF001 - the look-alikes are the point
        ("\t\u00a0\u2002\u2003\u2009\u202f", " "),
        ("\u200b\u200c\u200d\u2060\ufeff\u00ad\ufe0f", ""),
        ("•·", "*"),
        ("…", "..."),
        ("№", "No."),
        ("×", "x"),  # noqa: RUF001 - the look-alikes are the point
        ("\u2028\u2029", "\n"),
    )
    for character in characters
}

Encoding = Literal["gsm7", "ucs2"]
# units of an SMS that stands alone, and of each one where a text takes several
_ROOM: dict[Encoding, tuple[int, int]] = {"gsm7": (160, 153), "ucs2": (70, 67)}


class Forcing(Struct, frozen=True):
    """A character outside GSM-7, and what says the same there: null where nothing does."""

    character: str
    name: str
    replacement: str | None


class Segments(Struct, frozen=True):
    """`units`: SMS units, two for some characters. `units_left` still fit without another segment."""

    encoding: Encoding
    characters: int
    units: int
    segments: int
    units_left: int
    forced_by: list[Forcing]


def segments_of(text: str) -> Segments:
    """A character is never split over two segments."""
    foreign = [character for character in dict.fromkeys(text) if not _in_gsm7(character)]
    encoding: Encoding = "ucs2" if foreign else "gsm7"
    widths = [_width(character, encoding) for character in text]
    count, left = _packed(widths, room=_ROOM[encoding])
    return Segments(encoding, len(text), sum(widths), count, left, [_forcing(character) for character in foreign])


def _in_gsm7(character: str) -> bool:
    return character in _BASIC or character in _EXTENDED


def _width(character: str, encoding: Encoding) -> int:
    if encoding == "ucs2":
        return 2 if ord(character) > 0xFFFF else 1  # a surrogate pair
    return 2 if character in _EXTENDED else 1


def _packed(widths: Sequence[int], *, room: tuple[int, int]) -> tuple[int, int]:
    """How many segments, and the units left in the last."""
    alone, each = room
    if sum(widths) <= alone:
        return 1, alone - sum(widths)
    return _filled(widths, each)


def _filled(widths: Iterable[int], room: int) -> tuple[int, int]:
    count, left = 1, room
    for width in widths:
        if width > left:
            count, left = count + 1, room
        left -= width
    return count, left


def _forcing(character: str) -> Forcing:
    name = unicodedata.name(character, f"U+{ord(character):04X}")
    return Forcing(character, name, _REPLACEMENTS.get(character, _plain(character)))


def _plain(character: str) -> str | None:
    """Without its accents, or the ordinary form of a full-width one: á → a, Ａ → A."""  # noqa: RUF002 - a full-width A
    letters = [part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part)]
    return "".join(letters) if letters and all(map(_in_gsm7, letters)) else None

"""A tag is a free label: any script and any sign, but no character that cannot be seen.

Tags that look the same are the same: a tag is stored in Unicode's composed form (NFC), each run of spaces is one space,
and there is none at either end. An invisible character is rejected by its name, because it would make a second tag that
looks like the first.
"""

import re
import unicodedata

MAX_LENGTH = 100
RULE = f"1 to {MAX_LENGTH} visible characters"

_SPACES = re.compile(r"[^\S\x00-\x1f\x7f-\x9f\u2028\u2029]+")  # a line break or a tab is an error, not a space
# Invisible, though Unicode does not class them as control or format characters: fillers, joiners, variation selectors
_IGNORABLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_EMOJI_STYLE = re.compile("[\ufe0e\ufe0f]")  # selects how an emoji is drawn; with and without it is one tag
_INVISIBLE = frozenset({"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"})


def normalised_tag(given: object) -> object:
    """Return the one form of a tag. Raises ValueError that names the invisible character, or the limit of length.

    What is not text is returned as it is.
    """
    if not isinstance(given, str):
        return given
    if given.isascii() and given.isprintable() and "  " not in given:
        tag = given.strip()
    else:
        tag = _SPACES.sub(" ", _EMOJI_STYLE.sub("", unicodedata.normalize("NFC", given.strip())))
        if invisible := next((sign for at, sign in enumerate(tag) if _is_invisible(sign, tag, at)), None):
            raise ValueError(f"must be {RULE}, without {_named(invisible)}; delete that character")
    if not 0 < len(tag) <= MAX_LENGTH:
        raise ValueError(f"must be {RULE}")
    return tag


def is_tag(value: str) -> bool:
    """Tell whether a tag is in its one form."""
    try:
        return normalised_tag(value) == value
    except ValueError:
        return False


def _is_invisible(sign: str, tag: str, at: int) -> bool:
    if sign == "\u200d" and 0 < at < len(tag) - 1:  # the joiner of emoji such as a family
        return not all(unicodedata.category(each) in {"So", "Sk"} for each in (tag[at - 1], tag[at + 1]))
    return unicodedata.category(sign) in _INVISIBLE or _IGNORABLE.match(sign) is not None


def _named(sign: str) -> str:
    return f"{unicodedata.name(sign, 'the character')} (U+{ord(sign):04X})"

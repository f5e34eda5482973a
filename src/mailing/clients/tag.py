"""A tag is a free label: any script and any sign, but no character that cannot be seen.

Tags that look the same are the same: a tag is stored in Unicode's composed form (NFC), each run of spaces is one space,
and there is none at either end. An invisible character is rejected by its name, because it would make a second tag that
looks like the first.
"""

import re
import unicodedata

from mailing.reasons.refusals import MAX_TAG_LENGTH, RefusalCode, RefusedValueError

_SPACES = re.compile(r"[^\S\x00-\x1f\x7f-\x9f\u2028\u2029]+")  # a line break or a tab is an error, not a space
# Characters that cannot be seen: control and format characters, line separators, noncharacters, and fillers, joiners
# and variation selectors that Unicode classes otherwise
_INVISIBLE = (
    r"\u0000-\u001f\u007f-\u009f\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5"
    r"\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufdd0-\ufdef\ufe00-\ufe0f"
    r"\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
)
_BEYOND = (
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff\U00016fe4"
)
_BEYOND += "".join(chr(plane << 16 | last) for plane in range(1, 17) for last in (0xFFFE, 0xFFFF))
_is_invisible = re.compile(f"[{_INVISIBLE}{_BEYOND}\\ud800-\\udfff]").match
_EMOJI_STYLE = re.compile("[\ufe0e\ufe0f]")  # selects how an emoji is drawn; with and without it is one tag
_JOINER = "\u200d"  # of emoji such as a family

# For the documentation, in the part of Unicode that every dialect of patterns reads alike; `normalised_tag` decides
VISIBLE = f"[^\\s{_INVISIBLE}]"
PATTERN = f"^\\s*{VISIBLE}[^{_INVISIBLE}]*$"


def normalised_tag(given: object) -> object:
    """Return the one form of a tag. Raises RefusedValueError for an invisible character or a wrong length.

    What is not text is returned as it is.
    """
    if not isinstance(given, str):
        return given
    if given.isascii() and given.isprintable() and "  " not in given:
        tag = given.strip()
    else:
        tag = _SPACES.sub(" ", _EMOJI_STYLE.sub("", unicodedata.normalize("NFC", given.strip())))
        hidden = (sign for at, sign in enumerate(tag) if _is_invisible(sign) and not _joins_emoji(tag, at))
        if invisible := next(hidden, None):
            name = f"{unicodedata.name(invisible, 'the character')} (U+{ord(invisible):04X})"
            raise RefusedValueError(RefusalCode.tag_invisible, name=name)
    if not tag or max(len(given), len(tag)) > MAX_TAG_LENGTH:
        raise RefusedValueError(RefusalCode.tag)
    return tag


def is_tag(value: str) -> bool:
    try:
        return normalised_tag(value) == value
    except ValueError:
        return False


def _joins_emoji(tag: str, at: int) -> bool:
    if tag[at] != _JOINER or not 0 < at < len(tag) - 1:
        return False
    return {unicodedata.category(tag[at - 1]), unicodedata.category(tag[at + 1])} <= {"So", "Sk"}

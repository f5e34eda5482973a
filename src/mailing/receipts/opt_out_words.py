"""Recognize a reply that opts out, however a phone has written it. Pure."""

import unicodedata
from collections.abc import Mapping

# Letters that look alike are one, so that a word typed on the other keyboard or with a zero is the same word.
_LOOKALIKES = str.maketrans("авекмнорстух\u0455іёї03", "abekmhopctyxsieioз")

OptOutWords = Mapping[str, str]


def opt_out_words(setting: str) -> OptOutWords:
    """Index the words of a setting such as `STOP,СТОП` by their normalised form."""
    words = [word.strip() for word in setting.split(",")]
    return {_plain(word): word for word in words if _plain(word)}


def opt_out_word(text: str, words: OptOutWords) -> str | None:
    """Return the word, as the setting has it, if the reply is that word and no more."""
    return words.get(_plain(text)) if len(text) <= _MAX_LENGTH else None


_MAX_LENGTH = 200  # characters of a reply that may still be one word


def _plain(text: str) -> str:
    """Reduce a text to its letters and digits, in one case and one alphabet of look-alikes."""
    signs = (sign for sign in unicodedata.normalize("NFKC", text).casefold() if sign.isalnum())
    return "".join(signs).translate(_LOOKALIKES)

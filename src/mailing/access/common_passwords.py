"""Passwords that an attacker tries first: common ones, the user's own name, keyboard runs and repetitions.

Nothing is asked of a password's composition (NIST SP 800-63B, 3.1.1.2): it is only compared. `common_passwords/` says
where the lists are from. Most of their entries are shorter than a password may be, and stand for everything that is
made of them by digits and signs at either end, which is how people lengthen a password.
"""

import gzip
import json
import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from pathlib import Path

LISTS = Path(__file__).parent / "common_passwords"
PRODUCT = "mailing"
_MIN_WORD = 3  # of a name, to be looked for in a password
_MIN_REST = 6  # what must be left without the names
_STEPS = 4  # one new beginning at most for so many characters that run on
_ROWS = (
    *("1234567890-=", "qwertyuiop[]", "asdfghjkl;'", "zxcvbnm,./"),
    *("йцукенгшщзхъ", "фывапролджэ", "ячсмитьбю"),
)


def problem_of(password: str, names: Iterable[str]) -> str | None:
    """Return the problem as a phrase that follows the field's name. `names` are the user's."""
    plain = _plain(password)
    if _runs(plain) or _repeats(plain):
        return "must not follow the keyboard or the alphabet or repeat itself; use several random words"
    if _is_common(plain):
        return "is too common; use several random words"
    without_names = _without(plain, [*names, PRODUCT])
    if without_names != _joined(plain) and (len(without_names) < _MIN_REST or _is_common(without_names)):
        return "must not consist of the user's or the product's name; use several random words"
    return None


def _plain(password: str) -> str:
    return unicodedata.normalize("NFKC", password).casefold()


def _is_common(plain: str) -> bool:
    return any(form in _common() for form in (plain, _stem(plain), _joined(plain), _stem(_joined(plain))))


def _stem(plain: str) -> str:
    """Strip digits and signs at both ends."""
    return re.sub(r"^[\W\d_]+|[\W\d_]+$", "", plain)


def _joined(plain: str) -> str:
    """Keep letters and digits only."""
    return re.sub(r"[\W_]+", "", plain)


@cache
def _common() -> frozenset[str]:
    zxcvbn: list[str] = json.loads((LISTS / "zxcvbn-ts.json").read_text(encoding="utf-8"))
    django = gzip.decompress((LISTS / "django.txt.gz").read_bytes()).decode().splitlines()
    return frozenset(_plain(each) for each in (*zxcvbn, *django) if each)


def _without(plain: str, names: Iterable[str]) -> str:
    """Remove the names, their parts, and both spelled backwards."""
    rest = _joined(plain)
    for word in sorted(set(_words(names)), key=len, reverse=True):
        rest = rest.replace(word, "").replace(word[::-1], "")
    return rest


def _words(names: Iterable[str]) -> Iterable[str]:
    for name in map(_plain, names):
        yield from (word for word in (_joined(name), *re.split(r"[\W_]+", name)) if len(word) >= _MIN_WORD)


def _runs(plain: str) -> bool:
    """Whether nearly every character is the successor of the one before."""
    breaks = sum(not _follows(before, after) for before, after in pairwise(plain))
    return breaks * _STEPS <= len(plain)


def _follows(before: str, after: str) -> bool:
    if abs(ord(before) - ord(after)) <= 1:
        return True
    return any(pair in row for row in _ROWS for pair in (before + after, after + before))


def _repeats(plain: str) -> bool:
    """Whether it is one part of it again and again."""
    return any(plain[period:] == plain[:-period] for period in range(1, len(plain) // 2 + 1))

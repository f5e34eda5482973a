"""The gettext catalogues of page and mail. English stands in the code, other languages in a `ru.po` of each package."""

from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from babel.support import Translations

LANGUAGES = {"en": "English", "ru": "Русский"}
PACKAGE = Path(__file__).parent


def _(phrase: str) -> str:
    """Mark a phrase for the catalogues; it is translated where it is shown."""
    return phrase


def pgettext(_context: str, phrase: str) -> str:
    """Mark as `_` does, with a context."""
    return phrase


@cache
def translations(language: str) -> "Translations":
    """Read the catalogues of all packages, once a process: a few hundred sentences."""
    from babel.support import Translations  # noqa: PLC0415 - a process that shows no sentence needs none of it

    found, *more = [_catalogue(path, language) for path in sorted(PACKAGE.rglob(f"{language}.po"))] or [Translations()]
    for each in more:
        found.merge(each)  # keeps the plural rule of the first catalogue; that of an empty one would be English
    return found


def _catalogue(path: Path, language: str) -> "Translations":
    from babel.messages.mofile import write_mo  # noqa: PLC0415 - as above
    from babel.messages.pofile import read_po  # noqa: PLC0415 - as above
    from babel.support import Translations  # noqa: PLC0415 - as above

    compiled = BytesIO()
    with path.open("rb") as file:
        write_mo(compiled, read_po(file, locale=language))
    compiled.seek(0)
    return Translations(compiled)

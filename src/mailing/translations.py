"""The gettext catalogues of page and mail. English stands in the code, other languages in a `ru.po` of each package."""

from functools import cache
from io import BytesIO
from pathlib import Path

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations

LANGUAGES = {"en": "English", "ru": "Русский"}
PACKAGE = Path(__file__).parent


@cache
def translations(language: str) -> Translations:
    """Read the catalogues of all packages, once a process: a few hundred sentences."""
    found, *more = [_catalogue(path, language) for path in sorted(PACKAGE.rglob(f"{language}.po"))] or [Translations()]
    for each in more:
        found.merge(each)  # keeps the plural forms of the first; those of an empty one would be English
    return found


def _catalogue(path: Path, language: str) -> Translations:
    compiled = BytesIO()
    with path.open("rb") as file:
        write_mo(compiled, read_po(file, locale=language))
    compiled.seek(0)
    return Translations(compiled)

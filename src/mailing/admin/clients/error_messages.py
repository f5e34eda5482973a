"""Translation of the domain's messages about a client's fields and a file's rows.

Those sentences are English and some carry a number or a name; here they are known by their shape. A sentence that is
not known is shown as it is.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from mailing.admin.viewer import Viewer
from mailing.clients import phone, tag, timezone
from mailing.clients.csv_encoding import NOT_CSV
from mailing.clients.csv_transfer import ZONELESS
from mailing.clients.phone import ERASED
from mailing.database.error_messages import CAUSES
from mailing.errors import FieldError

MESSAGES: Final = (
    "is required",
    "must not contain a NUL character",
    f"must be {phone.RULE}",
    f"must be {phone.RULE}; this has %(count)s digits",
    f"must be {phone.RULE}; this is a number of another country",
    f"must be {phone.RULE}; a spreadsheet has rounded this number: format the column as text and enter it again",
    f"must be {phone.OPERATOR_CODE_RULE}",
    f"must be {tag.RULE}",
    f"must be {tag.RULE}, without %(name)s; delete that character",
    f"must be {timezone.RULE}",
    f"must be {timezone.RULE}, not an offset",
    f"must be {timezone.RULE}, not an offset; %(name)s is this one, all year round",
    f"must be {timezone.RULE}; did you mean %(name)s?",
    "belongs to another client",
    ERASED,
    ZONELESS,
    "must be true, false, 1, 0, yes, no or empty",
    "has a quote that does not close, or text after a closing quote",
    "has %(cells)s columns, the header has %(columns)s",
    "has a value in column %(place)s, which the header does not name",
    "cannot be read in the encoding of the file; save the file as CSV UTF-8",
    "is longer than %(size)s KiB",
    "the file is empty; its first line must be %(columns)s",
    "the file's encoding is not recognised; save it as CSV UTF-8",
    *(f"the file {problem}" for problem in NOT_CSV.values()),
    "column %(place)s is unknown; the first line names the columns %(columns)s",
    "column %(name)s is there twice",
    "column %(name)s is missing",
    "choose a file first",
    "is larger than %(size)s MB; split it into several files",
    "%(files)s files or %(size)s MB of yours may wait at once; import or discard one first",
    "%(files)s files or %(size)s MB may wait at once, those of others too; import or discard one, or come again later",
    "takes too long to validate; split the file, and remove lines that are not rows of clients",
    "was started %(tries)s times and never finished; see the worker's log for the cause",
    "was started %(tries)s times and failed each time",
    *CAUSES,
)


def _pattern(sentence: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"%\\\((\w+)\\\)s|%\((\w+)\)s", r"(?P<\1\2>.+)", re.escape(sentence)))


_PATTERNS: Final = {sentence: _pattern(sentence) for sentence in MESSAGES}


def translate(viewer: Viewer, message: str) -> str:
    for sentence, shape in _PATTERNS.items():
        if found := shape.fullmatch(message):
            words = viewer.gettext(sentence)
            return words % found.groupdict() if found.groupdict() else words
    return message


def by_field(viewer: Viewer, errors: Iterable[FieldError]) -> Mapping[str, str]:
    """Each with the field's name, because the summary stands apart from the fields."""
    labels = {
        "phone": viewer.gettext("Phone"),
        "operator_code": viewer.gettext("Operator code"),
        "tag": viewer.gettext("Tag"),
        "timezone": viewer.gettext("Time zone"),
    }
    return {
        error.field: f"{labels.get(error.field, error.field)}: {translate(viewer, error.message)}" for error in errors
    }

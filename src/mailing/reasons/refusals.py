"""Why a value, a row, a file or an import is refused: codes, and their words in both languages.

The schema has the same list of codes: the domain `refusal_code`.
"""

from collections.abc import Mapping
from enum import auto
from typing import Final

import msgspec

from mailing.errors import FieldError
from mailing.reasons.codes import WordedCode
from mailing.translations import translations

PHONE_RULE: Final = "a Russian phone of 11 digits, such as 79161234567 or +7 (916) 123-45-67"
OPERATOR_CODE_RULE: Final = "3 digits, such as 916; leave it out to take digits 2 to 4 of the phone"
MAX_TAG_LENGTH: Final = 100
TAG_RULE: Final = f"1 to {MAX_TAG_LENGTH} visible characters"
TIMEZONE_RULE: Final = "an IANA time zone, such as Europe/Moscow"


class RefusalCode(WordedCode):
    """The test that demands a translation of each marks the words, since gettext's tools do not read f-strings."""

    # A value
    required = auto(), "is required"
    nul = auto(), "must not contain a NUL character"
    phone = auto(), f"must be {PHONE_RULE}"
    phone_length = auto(), f"must be {PHONE_RULE}; this has %(count)s digits"
    phone_abroad = auto(), f"must be {PHONE_RULE}; this is a number of another country"
    phone_rounded = (
        auto(),
        f"must be {PHONE_RULE}; a spreadsheet has rounded this number: format the column as text and enter it again",
    )
    phone_taken = auto(), "belongs to another client"
    phone_erased = auto(), "belongs to a person who was erased; `mailing privacy allow` allows the phone again"
    operator_code = auto(), f"must be {OPERATOR_CODE_RULE}"
    tag = auto(), f"must be {TAG_RULE}"
    tag_invisible = auto(), f"must be {TAG_RULE}, without %(name)s; delete that character"
    timezone = auto(), f"must be {TIMEZONE_RULE}"
    timezone_offset = auto(), f"must be {TIMEZONE_RULE}, not an offset"
    timezone_fixed = auto(), f"must be {TIMEZONE_RULE}, not an offset; %(name)s is this one, all year round"
    timezone_misspelt = auto(), f"must be {TIMEZONE_RULE}; did you mean %(name)s?"
    timezone_missing = auto(), "is needed for a new client"
    opted_out = auto(), "must be true, false, 1, 0, yes, no or empty"

    # A row
    open_quote = auto(), "has a quote that does not close, or text after a closing quote"
    cell_count = auto(), "has %(cells)s columns, the header has %(columns)s"
    unnamed_column = auto(), "has a value in column %(place)s, which the header does not name"
    undecodable_row = auto(), "cannot be read in the encoding of the file; save the file as CSV UTF-8"
    long_row = auto(), "is longer than %(size)s KiB"

    # A file
    empty_file = auto(), "the file is empty; its first line must be %(columns)s"
    unknown_encoding = auto(), "the file's encoding is not recognised; save it as CSV UTF-8"
    workbook = auto(), "the file is a workbook (.xlsx or .ods) or a ZIP archive, not CSV; save the sheet as CSV UTF-8"
    old_workbook = auto(), "the file is an old Excel workbook (.xls), not CSV; save the sheet as CSV UTF-8"
    gzip = auto(), "the file is compressed with gzip; unpack it first"
    bzip2 = auto(), "the file is compressed with bzip2; unpack it first"
    xz = auto(), "the file is compressed with xz; unpack it first"
    zstandard = auto(), "the file is compressed with Zstandard; unpack it first"
    seven_zip = auto(), "the file is a 7z archive; unpack it first"
    rar = auto(), "the file is a RAR archive; unpack it first"
    pdf = auto(), "the file is a PDF document, not CSV"
    unknown_column = auto(), "column %(place)s is unknown; the first line names the columns %(columns)s"
    repeated_column = auto(), "column %(name)s is there twice"
    missing_column = auto(), "column %(name)s is missing"
    no_file = auto(), "choose a file first"
    large_file = auto(), "is larger than %(size)s MB; split it into several files"
    own_files = auto(), "%(files)s files or %(size)s MB of yours may wait at once; import or discard one first"
    all_files = (
        auto(),
        (
            "%(files)s files or %(size)s MB may wait at once, those of others too; "
            "import or discard one, or come again later"
        ),
    )

    # An import
    slow_validation = (
        auto(),
        "takes too long to validate; split the file, and remove lines that are not rows of clients",
    )
    never_finished = auto(), "was started %(tries)s times and never finished; see the worker's log for the cause"
    failed_each_time = auto(), "was started %(tries)s times and failed each time"

    # The database during an import
    transaction_timeout = auto(), "the process was frozen during the transaction, and the database rolled it back"
    read_only = auto(), "the database is read-only"
    disk_full = auto(), "the database's disk is full"
    no_resources = auto(), "the database is out of connections or memory"
    canceled_statement = auto(), "the database took too long, or waited too long for a lock"
    shutdown = auto(), "the database was shut down or restarted, or ended the connection"
    lock_timeout = auto(), "the database waited too long for a lock"
    concurrent_change = auto(), "a concurrent change conflicted with it"
    file_error = auto(), "the database could not read or write its files"
    connection_lost = auto(), "the connection to the database was lost"
    silent = auto(), "the database did not answer in time"
    busy = auto(), "every connection to the database was in use"


class Refusal(msgspec.Struct, frozen=True):
    """`params` are what the words need. They never hold what was typed."""

    code: RefusalCode
    params: Mapping[str, str | int] = {}

    def words(self, language: str = "en") -> str:
        sentence: str = translations(language).gettext(self.code.english)
        return sentence % self.params if self.params else sentence


class RefusedField(FieldError, frozen=True):
    """A field error that can be told in another language."""

    refusal: Refusal


class RefusedValueError(ValueError):
    """A value that is refused. The text of the error is English, for the API."""

    def __init__(self, code: RefusalCode, **params: str | int) -> None:
        self.refusal = Refusal(code, params)
        super().__init__(self.refusal.words())


def refused_field(field: str, code: RefusalCode, **params: str | int) -> RefusedField:
    refusal = Refusal(code, params)
    return RefusedField(field, refusal.words(), refusal)

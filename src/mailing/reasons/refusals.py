"""Why a value, a row, a file or an import is refused: codes, and their words in both languages.

The schema has the same list of codes: the domain `refusal_code`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from mailing.errors import FieldError
from mailing.translations import translations

PHONE_RULE: Final = "a Russian phone of 11 digits, such as 79161234567 or +7 (916) 123-45-67"
OPERATOR_CODE_RULE: Final = "3 digits, such as 916; leave it out to take digits 2 to 4 of the phone"
MAX_TAG_LENGTH: Final = 100
TAG_RULE: Final = f"1 to {MAX_TAG_LENGTH} visible characters"
TIMEZONE_RULE: Final = "an IANA time zone, such as Europe/Moscow"


class RefusalCode(StrEnum):
    # A value
    required = "required"
    nul = "nul"
    phone = "phone"
    phone_length = "phone_length"
    phone_abroad = "phone_abroad"
    phone_rounded = "phone_rounded"
    phone_taken = "phone_taken"
    phone_erased = "phone_erased"
    operator_code = "operator_code"
    tag = "tag"
    tag_invisible = "tag_invisible"
    timezone = "timezone"
    timezone_offset = "timezone_offset"
    timezone_fixed = "timezone_fixed"
    timezone_misspelt = "timezone_misspelt"
    timezone_missing = "timezone_missing"
    opted_out = "opted_out"

    # A row
    open_quote = "open_quote"
    cell_count = "cell_count"
    unnamed_column = "unnamed_column"
    undecodable_row = "undecodable_row"
    long_row = "long_row"

    # A file
    empty_file = "empty_file"
    unknown_encoding = "unknown_encoding"
    workbook = "workbook"
    old_workbook = "old_workbook"
    gzip = "gzip"
    bzip2 = "bzip2"
    xz = "xz"
    zstandard = "zstandard"
    seven_zip = "seven_zip"
    rar = "rar"
    pdf = "pdf"
    unknown_column = "unknown_column"
    repeated_column = "repeated_column"
    missing_column = "missing_column"
    no_file = "no_file"
    large_file = "large_file"
    own_files = "own_files"
    all_files = "all_files"

    # An import
    slow_validation = "slow_validation"
    never_finished = "never_finished"
    failed_each_time = "failed_each_time"

    # The database during an import
    transaction_timeout = "transaction_timeout"
    read_only = "read_only"
    disk_full = "disk_full"
    no_resources = "no_resources"
    canceled_statement = "canceled_statement"
    shutdown = "shutdown"
    lock_timeout = "lock_timeout"
    concurrent_change = "concurrent_change"
    file_error = "file_error"
    connection_lost = "connection_lost"
    silent = "silent"
    busy = "busy"


# Marked for the catalogue by the test that demands a translation of each: gettext's tools do not read f-strings.
WORDS: Final[Mapping[RefusalCode, str]] = {
    RefusalCode.required: "is required",
    RefusalCode.nul: "must not contain a NUL character",
    RefusalCode.phone: f"must be {PHONE_RULE}",
    RefusalCode.phone_length: f"must be {PHONE_RULE}; this has %(count)s digits",
    RefusalCode.phone_abroad: f"must be {PHONE_RULE}; this is a number of another country",
    RefusalCode.phone_rounded: (
        f"must be {PHONE_RULE}; a spreadsheet has rounded this number: format the column as text and enter it again"
    ),
    RefusalCode.phone_taken: "belongs to another client",
    RefusalCode.phone_erased: "belongs to a person who was erased; `mailing privacy allow` allows the phone again",
    RefusalCode.operator_code: f"must be {OPERATOR_CODE_RULE}",
    RefusalCode.tag: f"must be {TAG_RULE}",
    RefusalCode.tag_invisible: f"must be {TAG_RULE}, without %(name)s; delete that character",
    RefusalCode.timezone: f"must be {TIMEZONE_RULE}",
    RefusalCode.timezone_offset: f"must be {TIMEZONE_RULE}, not an offset",
    RefusalCode.timezone_fixed: f"must be {TIMEZONE_RULE}, not an offset; %(name)s is this one, all year round",
    RefusalCode.timezone_misspelt: f"must be {TIMEZONE_RULE}; did you mean %(name)s?",
    RefusalCode.timezone_missing: "is needed for a new client",
    RefusalCode.opted_out: "must be true, false, 1, 0, yes, no or empty",
    RefusalCode.open_quote: "has a quote that does not close, or text after a closing quote",
    RefusalCode.cell_count: "has %(cells)s columns, the header has %(columns)s",
    RefusalCode.unnamed_column: "has a value in column %(place)s, which the header does not name",
    RefusalCode.undecodable_row: "cannot be read in the encoding of the file; save the file as CSV UTF-8",
    RefusalCode.long_row: "is longer than %(size)s KiB",
    RefusalCode.empty_file: "the file is empty; its first line must be %(columns)s",
    RefusalCode.unknown_encoding: "the file's encoding is not recognised; save it as CSV UTF-8",
    RefusalCode.workbook: (
        "the file is a workbook (.xlsx or .ods) or a ZIP archive, not CSV; save the sheet as CSV UTF-8"
    ),
    RefusalCode.old_workbook: "the file is an old Excel workbook (.xls), not CSV; save the sheet as CSV UTF-8",
    RefusalCode.gzip: "the file is compressed with gzip; unpack it first",
    RefusalCode.bzip2: "the file is compressed with bzip2; unpack it first",
    RefusalCode.xz: "the file is compressed with xz; unpack it first",
    RefusalCode.zstandard: "the file is compressed with Zstandard; unpack it first",
    RefusalCode.seven_zip: "the file is a 7z archive; unpack it first",
    RefusalCode.rar: "the file is a RAR archive; unpack it first",
    RefusalCode.pdf: "the file is a PDF document, not CSV",
    RefusalCode.unknown_column: "column %(place)s is unknown; the first line names the columns %(columns)s",
    RefusalCode.repeated_column: "column %(name)s is there twice",
    RefusalCode.missing_column: "column %(name)s is missing",
    RefusalCode.no_file: "choose a file first",
    RefusalCode.large_file: "is larger than %(size)s MB; split it into several files",
    RefusalCode.own_files: ("%(files)s files or %(size)s MB of yours may wait at once; import or discard one first"),
    RefusalCode.all_files: (
        "%(files)s files or %(size)s MB may wait at once, those of others too; "
        "import or discard one, or come again later"
    ),
    RefusalCode.slow_validation: (
        "takes too long to validate; split the file, and remove lines that are not rows of clients"
    ),
    RefusalCode.never_finished: "was started %(tries)s times and never finished; see the worker's log for the cause",
    RefusalCode.failed_each_time: "was started %(tries)s times and failed each time",
    RefusalCode.transaction_timeout: "the process was frozen during the transaction, and the database rolled it back",
    RefusalCode.read_only: "the database is read-only",
    RefusalCode.disk_full: "the database's disk is full",
    RefusalCode.no_resources: "the database is out of connections or memory",
    RefusalCode.canceled_statement: "the database took too long, or waited too long for a lock",
    RefusalCode.shutdown: "the database was shut down or restarted, or ended the connection",
    RefusalCode.lock_timeout: "the database waited too long for a lock",
    RefusalCode.concurrent_change: "a concurrent change conflicted with it",
    RefusalCode.file_error: "the database could not read or write its files",
    RefusalCode.connection_lost: "the connection to the database was lost",
    RefusalCode.silent: "the database did not answer in time",
    RefusalCode.busy: "every connection to the database was in use",
}


class Refusal(msgspec.Struct, frozen=True):
    """`params` are what the words need. They never hold what was typed."""

    code: RefusalCode
    params: Mapping[str, str | int] = {}

    def words(self, language: str = "en") -> str:
        sentence: str = translations(language).gettext(WORDS[self.code])
        return sentence % self.params if self.params else sentence


class RefusedField(FieldError, frozen=True):
    """A field error that can be told in another language."""

    refusal: Refusal


class RefusedValueError(ValueError):
    """Its text is English, for the API."""

    def __init__(self, code: RefusalCode, **params: str | int) -> None:
        self.refusal = Refusal(code, params)
        super().__init__(self.refusal.words())


def refused_field(field: str, code: RefusalCode, **params: str | int) -> RefusedField:
    refusal = Refusal(code, params)
    return RefusedField(field, refusal.words(), refusal)

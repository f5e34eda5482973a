"""Parse and validate CSV rows. Pure: bytes in, rows out, in memory that does not grow with the file.

A row is a line, because no value may contain a line break. Only a quote that closes on a later line joins lines, and
such a row is rejected as one. A quote that never closes costs its own line, not the rest of the file.

Each byte is read at most a fixed number of times, whatever the file contains and however it is split into chunks.
"""

import re
from collections.abc import Callable, Iterator
from itertools import islice
from operator import itemgetter
from typing import NamedTuple

from mailing.clients import phone, tag, timezone
from mailing.clients.csv_lines import OpenQuoteError, QuotedLines, Record, cells_of
from mailing.clients.phone import is_operator_code, is_phone, operator_code_of
from mailing.clients.schemas import RowError
from mailing.clients.tag import is_tag
from mailing.csv_writer import unescape_formula
from mailing.errors import FieldError, Invalid
from mailing.timezones import known_zone

COLUMNS = ("phone", "operator_code", "tag", "timezone")
REQUIRED = ("phone", "timezone")
MAX_LINE_BYTES = 64 * 1024  # bytes of one row; a valid one has under 1,000
MAX_LISTED_ERRORS = 1000
MAX_EXCERPT = 500  # characters of a rejected row
MAX_HEADER_PROBLEMS = 20  # a header of 64 KiB has room for thousands


class ParsedRow(NamedTuple):
    """A valid row, as it will be stored."""

    line: int
    phone: str
    operator_code: str
    tag: str | None
    timezone: str


_NOT_UTF_8 = re.compile("[\ud800-\udfff]").search  # surrogateescape decodes invalid bytes to these


class RejectedField(NamedTuple):
    """One invalid field; `row` is the row as given, its first MAX_EXCERPT characters."""

    line: int
    field: str
    message: str
    row: str


class CsvReader:
    """A parser. Feed it the file in chunks of at most MAX_LINE_BYTES, then call `finish`.

    `columns` are the columns of the header, `rejected` counts every rejected row, `rejected_fields` holds the first
    invalid fields.
    """

    def __init__(self, *, listed: int = MAX_LISTED_ERRORS) -> None:
        self.columns: tuple[str, ...] = ()
        self.rejected = 0
        self.rejected_fields: list[RejectedField] = []
        self.listed = listed
        self._started = False
        self._line = 0  # lines already read
        self._tail = bytearray()  # the beginning of a line
        self._quotes = QuotedLines(limit=MAX_LINE_BYTES)
        self._skipping = False  # inside a line over the limit
        self._pick: Callable[[list[str]], tuple[str, str, str, str]]  # the cells in the order of COLUMNS

    @property
    def errors(self) -> list[RowError]:
        return [RowError(each.line, each.field, each.message) for each in self.rejected_fields]

    def feed(self, chunk: bytes) -> list[ParsedRow]:
        """Parse a chunk. Raises Invalid if the header is wrong."""
        if self._skipping:
            _, newline, chunk = chunk.partition(b"\n")
            self._skipping = not newline
        end = chunk.rfind(b"\n") + 1
        self._tail += chunk[:end]
        rows = list(self._rows()) if end else []
        self._tail += chunk[end:]
        if len(self._tail) > MAX_LINE_BYTES:
            rows += self._last_rows()
            self._reject_long_line()
        return rows

    def finish(self) -> list[ParsedRow]:
        rows: list[ParsedRow] = []
        if self._tail:
            self._tail += b"\n"
            rows += self._rows()
        rows += self._last_rows()
        if not self.columns:
            raise _bad_header("the file is empty; its first line must be " + ",".join(COLUMNS))
        return rows

    def _rows(self) -> Iterator[ParsedRow]:
        """Parse the complete lines; lines that a quote may join wait for more."""
        text = self._tail.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
        self._tail.clear()
        if not self._started:
            text = text.removeprefix("\ufeff")
            self._started = True
        for line in text.split("\n")[:-1]:
            cells = None if self._quotes.open else _plain_cells(line)
            if cells is not None:
                if row := self._row(cells) or self._reread(cells, lines=[line]):
                    yield row
                self._line += 1
            else:
                yield from self._validated(self._quotes.feed(line))

    def _last_rows(self) -> Iterator[ParsedRow]:
        yield from self._validated(self._quotes.flush())

    def _validated(self, records: Iterator[Record]) -> Iterator[ParsedRow]:
        for cells, lines in records:
            if row := self._row(cells) or self._reread(cells, lines=lines):
                yield row
            self._line += len(lines)

    def _row(self, cells: list[str] | None) -> ParsedRow | None:
        if cells is not None and len(cells) == len(self.columns):
            number, code, label, zone = self._pick([*cells, ""])
            label = unescape_formula(label)
            if (
                is_phone(number)
                and known_zone(zone)
                and (not code or is_operator_code(code))
                and (not label or is_tag(label))
            ):
                return ParsedRow(self._line + 1, number, code or operator_code_of(number), label or None, zone)
        return None

    def _reread(self, was: list[str] | None, *, lines: list[str]) -> ParsedRow | None:
        """Read a line that is not a valid row: a header, blank, valid but for spaces around its values, or invalid."""
        cells = [cell.strip() for cell in was or []]
        if was is None:
            self._reject(lines, ("row", "has a quote that does not close, or text after a closing quote"))
        elif not any(cells):
            pass
        elif not self.columns:
            self._read_header(cells)
        elif len(cells) != len(self.columns):
            self._reject(lines, ("row", f"has {len(cells)} columns, the header has {len(self.columns)}"))
        elif _NOT_UTF_8("".join(cells)):
            self._reject(lines, ("row", "is not UTF-8; save the file as CSV UTF-8"))
        elif cells != was:
            return self._row(cells) or self._reread(cells, lines=lines)
        else:
            self._reject(lines, *self._field_errors(*self._pick([*cells, ""])))
        return None

    def _field_errors(self, number: str, code: str, label: str, zone: str) -> Iterator[tuple[str, str]]:
        if not is_phone(number):
            yield "phone", f"must be {phone.RULE}"
        if code and not is_operator_code(code):
            yield "operator_code", f"must be {phone.OPERATOR_CODE_RULE}"
        if label and not is_tag(unescape_formula(label)):
            yield "tag", f"must be {tag.RULE}"
        if not known_zone(zone):
            yield "timezone", timezone.suggestion(zone)

    def _reject(self, lines: list[str], *errors: tuple[str, str]) -> None:
        if not self.columns:
            raise _bad_header(*(message for _, message in errors))
        self.rejected += 1
        free = self.listed - len(self.rejected_fields)
        self.rejected_fields += [RejectedField(self._line + 1, *error, _excerpt(lines)) for error in errors[:free]]

    def _reject_long_line(self) -> None:
        beginning = self._tail[: 4 * MAX_EXCERPT].decode("utf-8", "surrogateescape")
        self._reject([beginning], ("row", f"is longer than {MAX_LINE_BYTES // 1024} KiB"))
        self._line += 1
        self._tail.clear()
        self._skipping = True

    def _read_header(self, cells: list[str]) -> None:
        names = [cell.lower() for cell in cells]
        if problems := list(islice(_header_problems(names), MAX_HEADER_PROBLEMS)):
            raise _bad_header(*problems)
        self.columns = tuple(names)
        # a missing column is taken from the empty cell behind the row's end
        self._pick = itemgetter(*(names.index(name) if name in names else len(names) for name in COLUMNS))


def _plain_cells(line: str) -> list[str] | None:
    """Split a line; None if its quotes may span lines."""
    try:
        return cells_of(line)
    except OpenQuoteError:
        return None


def _excerpt(lines: list[str]) -> str:
    """Shorten a row, without what PostgreSQL can't store: bytes that are not UTF-8, and NUL."""
    row = "\n".join(lines)[:MAX_EXCERPT].replace("\x00", "\ufffd")
    return row.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _header_problems(names: list[str]) -> Iterator[str]:
    if _NOT_UTF_8("".join(names)) or "\x00" in "".join(names):
        yield "the file is not UTF-8; save it as CSV UTF-8"
        return
    if len(names) == 1 and (separator := next((sign for sign in ";\t|" if sign in names[0]), None)):
        yield f"columns are separated by {separator!r}; save the file with commas"
        return
    for place, name in enumerate(names, start=1):
        if name not in COLUMNS:
            yield f"column {place} is unknown; the first line names the columns {','.join(COLUMNS)}"
        elif name in names[: place - 1]:
            yield f"column {name} is there twice"
    yield from (f"column {name} is missing" for name in REQUIRED if name not in names)


def _bad_header(*problems: str) -> Invalid:
    return Invalid(*(FieldError("header", problem) for problem in problems))

"""CSV into rows, with a verdict on each bad one. Pure: bytes in, tuples out, memory that does not grow with the file.

A row is a line, because no value may hold a line break; only a quote that closes on a later line joins lines, and
such a row is refused as one. A quote that never closes costs its own line, not the rest of the file.

No byte is looked at more than a fixed number of times, whatever the file holds and however it is cut into pieces.
"""

import re
from collections.abc import Callable, Iterator
from itertools import islice
from operator import itemgetter
from typing import NamedTuple

from mailing.clients import phone, tag, timezone
from mailing.clients.csv_lines import OpenQuoteError, Quotes, Record, cells_of
from mailing.clients.phone import is_operator_code, is_phone, operator_code_of
from mailing.clients.schemas import RowError
from mailing.clients.tag import is_tag
from mailing.csv_writer import unescape_formula
from mailing.errors import FieldError, Invalid
from mailing.timezones import known_zone

COLUMNS = ("phone", "operator_code", "tag", "timezone")
REQUIRED = ("phone", "timezone")
LINE_LIMIT = 64 * 1024  # bytes of one row; a right one has under 1,000
ERRORS_LISTED = 1000
ROW_SHOWN = 500  # characters of a refused row
HEADER_PROBLEMS = 20  # a header of 64 KiB has room for thousands

Row = tuple[int, str, str, str | None, str]  # line, phone, operator code, tag, time zone

_NOT_UTF_8 = re.compile("[\ud800-\udfff]").search  # what surrogateescape makes of such bytes


class RejectedField(NamedTuple):
    """One bad field; `row` is the row as it was given, its first ROW_SHOWN characters."""

    line: int
    field: str
    message: str
    row: str


class CsvReader:
    """Feed it the file in pieces of at most LINE_LIMIT, then `finish` it.

    `columns` are those of the header; `rejected` counts every refused row, `refusals` are the first bad fields.
    """

    def __init__(self, *, listed: int = ERRORS_LISTED) -> None:
        self.columns: tuple[str, ...] = ()
        self.rejected = 0
        self.refusals: list[RejectedField] = []
        self.listed = listed
        self._begun = False
        self._line = 0  # lines that are done with
        self._tail = bytearray()  # the beginning of a line
        self._quotes = Quotes(limit=LINE_LIMIT)
        self._skipping = False  # inside a line over the limit
        self._pick: Callable[[list[str]], tuple[str, str, str, str]]  # the cells in the order of COLUMNS

    @property
    def errors(self) -> list[RowError]:
        return [RowError(line, field, message) for line, field, message, _ in self.refusals]

    def feed(self, piece: bytes) -> list[Row]:
        """Raises Invalid when the header is wrong."""
        if self._skipping:
            _, newline, piece = piece.partition(b"\n")
            self._skipping = not newline
        end = piece.rfind(b"\n") + 1
        self._tail += piece[:end]
        rows = list(self._rows()) if end else []
        self._tail += piece[end:]
        if len(self._tail) > LINE_LIMIT:
            rows += self._last_rows()
            self._refuse_long_line()
        return rows

    def finish(self) -> list[Row]:
        rows: list[Row] = []
        if self._tail:
            self._tail += b"\n"
            rows += self._rows()
        rows += self._last_rows()
        if not self.columns:
            raise _bad_header("the file is empty; its first line must be " + ",".join(COLUMNS))
        return rows

    def _rows(self) -> Iterator[Row]:
        """Of the whole lines that have come; those that a quote may join wait for more."""
        text = self._tail.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
        self._tail.clear()
        if not self._begun:
            text = text.removeprefix("\ufeff")
            self._begun = True
        for line in text.split("\n")[:-1]:
            cells = None if self._quotes.open else _plain_cells(line)
            if cells is not None:
                if row := self._row(cells) or self._second_look(cells, given=[line]):
                    yield row
                self._line += 1
            else:
                yield from self._judged(self._quotes.take(line))

    def _last_rows(self) -> Iterator[Row]:
        yield from self._judged(self._quotes.flush())

    def _judged(self, records: Iterator[Record]) -> Iterator[Row]:
        for cells, given in records:
            if row := self._row(cells) or self._second_look(cells, given=given):
                yield row
            self._line += len(given)

    def _row(self, cells: list[str] | None) -> Row | None:
        if cells is not None and len(cells) == len(self.columns):
            number, code, label, zone = self._pick([*cells, ""])
            label = unescape_formula(label)
            if (
                is_phone(number)
                and known_zone(zone)
                and (not code or is_operator_code(code))
                and (not label or is_tag(label))
            ):
                return self._line + 1, number, code or operator_code_of(number), label or None, zone
        return None

    def _second_look(self, was: list[str] | None, *, given: list[str]) -> Row | None:
        """Of a line that is no row as it stands: header, blank, right but for spaces around its values, or wrong."""
        cells = [cell.strip() for cell in was or []]
        if was is None:
            self._refuse(given, ("row", "has a quote that does not close, or text after a closing quote"))
        elif not any(cells):
            pass
        elif not self.columns:
            self._read_header(cells)
        elif len(cells) != len(self.columns):
            self._refuse(given, ("row", f"has {len(cells)} columns, the header has {len(self.columns)}"))
        elif _NOT_UTF_8("".join(cells)):
            self._refuse(given, ("row", "is not UTF-8; save the file as CSV UTF-8"))
        elif cells != was:
            return self._row(cells) or self._second_look(cells, given=given)
        else:
            self._refuse(given, *self._troubles(*self._pick([*cells, ""])))
        return None

    def _troubles(self, number: str, code: str, label: str, zone: str) -> Iterator[tuple[str, str]]:
        if not is_phone(number):
            yield "phone", f"must be {phone.RULE}"
        if code and not is_operator_code(code):
            yield "operator_code", f"must be {phone.OPERATOR_CODE_RULE}"
        if label and not is_tag(unescape_formula(label)):
            yield "tag", f"must be {tag.RULE}"
        if not known_zone(zone):
            yield "timezone", timezone.remedy(zone)

    def _refuse(self, given: list[str], *troubles: tuple[str, str]) -> None:
        if not self.columns:
            raise _bad_header(*(message for _, message in troubles))
        self.rejected += 1
        free = self.listed - len(self.refusals)
        self.refusals += [RejectedField(self._line + 1, *trouble, _shown(given)) for trouble in troubles[:free]]

    def _refuse_long_line(self) -> None:
        beginning = self._tail[: 4 * ROW_SHOWN].decode("utf-8", "surrogateescape")
        self._refuse([beginning], ("row", f"is longer than {LINE_LIMIT // 1024} KiB"))
        self._line += 1
        self._tail.clear()
        self._skipping = True

    def _read_header(self, cells: list[str]) -> None:
        names = [cell.lower() for cell in cells]
        if problems := list(islice(_header_problems(names), HEADER_PROBLEMS)):
            raise _bad_header(*problems)
        self.columns = tuple(names)
        # a column that is not there is taken from beyond the row's end, where an empty cell stands
        self._pick = itemgetter(*(names.index(name) if name in names else len(names) for name in COLUMNS))


def _plain_cells(line: str) -> list[str] | None:
    """None for a line whose quotes need a closer look."""
    try:
        return cells_of(line)
    except OpenQuoteError:
        return None


def _shown(given: list[str]) -> str:
    """Without what PostgreSQL can't store: bytes that are no UTF-8, and NUL."""
    row = "\n".join(given)[:ROW_SHOWN].replace("\x00", "\ufffd")
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

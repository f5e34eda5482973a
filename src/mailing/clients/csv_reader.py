"""Parse and validate CSV rows. Pure: bytes in, rows out, in memory that does not grow with the file.

A row is a line, because no value may contain a line break. Only a quote that closes on a later line joins lines, and
such a row is rejected as one. A quote that never closes costs its own line, not the rest of the file.

Each byte is read at most a fixed number of times, whatever the file contains and however it is split into chunks.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from mailing.clients import timezone
from mailing.clients.csv_encoding import UTF_8, UTF_16, LineDecoder, TextDecoder
from mailing.clients.csv_header import COLUMNS, UNDECODED, bad_header, likely_delimiter, named_delimiter, read_header
from mailing.clients.csv_lines import OpenQuoteError, QuotedLines, Record, cells_of
from mailing.clients.phone import is_operator_code, is_phone, normalised_phone, operator_code_of
from mailing.clients.tag import is_tag, normalised_tag
from mailing.csv_writer import unescape_formula
from mailing.reasons.refusals import Refusal, RefusalCode, RefusedValueError
from mailing.timezones import known_zone

# What a cell of `opted_out` may say in any case. Nothing opts in: a file may be older than an opt-out.
OPTED_OUT = dict.fromkeys(("true", "t", "1", "yes", "y", "да", "истина"), True)
OPTED_OUT |= dict.fromkeys(("false", "f", "0", "no", "n", "нет", "ложь", ""), False)
MAX_LINE_BYTES = 64 * 1024  # bytes of one row; a valid one has under 1,000
MAX_LISTED_ERRORS = 1000
MAX_EXCERPT = 500  # characters of a rejected row


class ParsedRow(NamedTuple):
    """A valid row, as it will be stored. Without a time zone it creates no client, and changes none's zone."""

    line: int
    phone: str
    operator_code: str
    tag: str | None
    timezone: str | None
    opted_out: bool = False


class RejectedField(NamedTuple):
    """One invalid field; `row` is the row as given, its first MAX_EXCERPT characters."""

    line: int
    field: str
    refusal: Refusal
    row: str


class CsvReader:
    """A parser. Feed it the file in chunks of at most MAX_LINE_BYTES, then call `finish`.

    `columns` are the columns of the header, `normalised` counts the rows whose phone or tag was rewritten, `rejected`
    counts every rejected row, `rejected_fields` holds the first invalid fields; `zoneless` says that a row has no time
    zone, which a file with the column `opted_out` may leave empty or out.
    """

    def __init__(self, *, listed: int = MAX_LISTED_ERRORS) -> None:
        self.columns: tuple[str, ...] = ()
        self.delimiter: str | None = None
        self.normalised = 0
        self.zoneless = False
        self.rejected = 0
        self.rejected_fields: list[RejectedField] = []
        self.listed = listed
        self._started = False
        self._line = 0  # lines already read
        self._tail = bytearray()  # the beginning of a line
        self._lines = LineDecoder()
        self._text = TextDecoder()
        self._quotes = QuotedLines(limit=MAX_LINE_BYTES, delimiter=",")
        self._skipping = False  # inside a line over the limit
        self._width = 0  # cells of the header
        self._unnamed: list[int] = []  # cells under an empty name
        self._pick: Callable[[list[str]], tuple[str, str, str, str, str]]  # the cells in the order of COLUMNS

    @property
    def encoding(self) -> str:
        """Tell how the file was read; before its first line that is not ASCII, UTF-8."""
        return UTF_16 if self._lines.encoding == UTF_16 else self._text.encoding or UTF_8

    def feed(self, chunk: bytes) -> list[ParsedRow]:
        """Parse a chunk. Raises Invalid if the header is wrong, or the file is not CSV."""
        return self._parse(self._lines.feed(chunk))

    def _parse(self, lines: bytes) -> list[ParsedRow]:
        starts = range(0, len(lines), MAX_LINE_BYTES)
        return [row for start in starts for row in self._parse_part(lines[start : start + MAX_LINE_BYTES])]

    def _parse_part(self, chunk: bytes) -> list[ParsedRow]:
        if self._skipping:
            _, newline, chunk = chunk.partition(b"\n")
            self._skipping = not newline
        end = chunk.rfind(b"\n") + 1
        self._tail += chunk[:end]
        rows = list(self._rows()) if end else []
        self._tail += chunk[end:]
        if len(self._tail) > MAX_LINE_BYTES:
            rows += self._validated(self._quotes.flush())
            self._reject_long_line()
        return rows

    def finish(self) -> list[ParsedRow]:
        rows = self._parse(self._lines.feed(b"", final=True))
        if self._tail:
            self._tail += b"\n"
            rows += self._rows()
        rows += self._validated(self._quotes.flush())
        if not self.columns:
            raise bad_header(Refusal(RefusalCode.empty_file, {"columns": ",".join(COLUMNS)}))
        return rows

    def _rows(self) -> Iterator[ParsedRow]:
        """Parse the complete lines; lines that a quote may join wait for more."""
        text = self._text.decode(bytes(self._tail)).replace("\r\n", "\n")
        self._tail.clear()
        if not self._started:
            text = text.lstrip("\ufeff")  # several of them, where files with one each were joined
            self._started = True
        for line in text.split("\n")[:-1]:
            if self.delimiter is None and self._recognise_delimiter(line):
                self._line += 1
                continue
            cells = None if self._quotes.open else _plain_cells(line, self.delimiter or ",")
            if cells is not None:
                if row := self._row(cells) or self._reread(cells, lines=[line]):
                    yield row
                self._line += 1
            else:
                yield from self._validated(self._quotes.feed(line))

    def _recognise_delimiter(self, line: str) -> bool:
        """Take the separator from a `sep=` line or the header. True for a line that says nothing else."""
        named = named_delimiter(line)
        self.delimiter = named or (likely_delimiter(line) if line.strip() else None)
        if self.delimiter:
            self._quotes = QuotedLines(limit=MAX_LINE_BYTES, delimiter=self.delimiter)
        return named is not None

    def _validated(self, records: Iterator[Record]) -> Iterator[ParsedRow]:
        for cells, lines in records:
            if row := self._row(cells) or self._reread(cells, lines=lines):
                yield row
            self._line += len(lines)

    def _row(self, cells: list[str] | None) -> ParsedRow | None:
        if cells is not None and len(cells) == self._width and not any(cells[at] for at in self._unnamed):
            number, code, label, zone, out = self._pick([*cells, ""])
            label = unescape_formula(label)
            if (
                is_phone(number)
                and self._is_zone(zone)
                and (not code or is_operator_code(code))
                and (not label or is_tag(label))
                and out.lower() in OPTED_OUT
            ):
                return self._parsed(number, code, label, zone, out)
        return None

    def _is_zone(self, zone: str) -> bool:
        return known_zone(zone) or (not zone and "opted_out" in self.columns)

    def _parsed(self, number: str, code: str, label: str, zone: str, out: str) -> ParsedRow:
        self.zoneless = self.zoneless or not zone
        code, opted_out = code or operator_code_of(number), OPTED_OUT[out.lower()]
        return ParsedRow(self._line + 1, number, code, label or None, zone or None, opted_out)

    def _reread(self, was: list[str] | None, *, lines: list[str]) -> ParsedRow | None:
        """Read a line that cannot be stored unchanged: the header, a blank line, a row to normalise or reject."""
        cells = [cell.strip() for cell in was or []]
        if was is None:
            self._reject(lines, ("row", Refusal(RefusalCode.open_quote)))
        elif not any(cells):
            pass
        elif not self.columns:
            self.columns, self._width, self._unnamed, self._pick = read_header(cells)
        elif UNDECODED("".join(cells)):
            self._reject(lines, ("row", Refusal(RefusalCode.undecodable_row)))
        else:
            cells = self._with_width(cells)
            return (cells != was and self._row(cells)) or self._normalise(cells, lines=lines)
        return None

    def _with_width(self, cells: list[str]) -> list[str]:
        """Drop empty cells behind the last column, and add the empty ones of columns without a name."""
        while len(cells) > self._width and not cells[-1]:
            cells = cells[:-1]
        missing = range(len(cells), self._width)
        return [*cells, *("" for _ in missing)] if all(at in self._unnamed for at in missing) else cells

    def _normalise(self, cells: list[str], *, lines: list[str]) -> ParsedRow | None:
        if problem := self._cell_problem(cells):
            self._reject(lines, ("row", problem))
            return None
        number, code, label, zone, out = self._pick([*cells, ""])
        problems: list[tuple[str, Refusal]] = []
        number = _normalised("phone", number, normalised_phone, problems)
        if code and not is_operator_code(code):
            problems.append(("operator_code", Refusal(RefusalCode.operator_code)))
        if label:
            label = _normalised("tag", unescape_formula(label), normalised_tag, problems)
        if not self._is_zone(zone):
            problems.append(("timezone", timezone.suggestion(zone)))
        if out.lower() not in OPTED_OUT:
            problems.append(("opted_out", Refusal(RefusalCode.opted_out)))
        if problems:
            self._reject(lines, *problems)
            return None
        self.normalised += 1
        return self._parsed(number, code, label, zone, out)

    def _cell_problem(self, cells: list[str]) -> Refusal | None:
        if len(cells) != self._width:
            return Refusal(RefusalCode.cell_count, {"cells": len(cells), "columns": self._width})
        filled = next((at for at in self._unnamed if cells[at]), None)
        return None if filled is None else Refusal(RefusalCode.unnamed_column, {"place": filled + 1})

    def _reject(self, lines: list[str], *errors: tuple[str, Refusal]) -> None:
        if not self.columns:
            raise bad_header(*(refusal for _, refusal in errors))
        self.rejected += 1
        free = self.listed - len(self.rejected_fields)
        self.rejected_fields += [RejectedField(self._line + 1, *error, _excerpt(lines)) for error in errors[:free]]

    def _reject_long_line(self) -> None:
        beginning = self._tail[: 4 * MAX_EXCERPT].decode("utf-8", "surrogateescape")
        self._reject([beginning], ("row", Refusal(RefusalCode.long_row, {"size": MAX_LINE_BYTES // 1024})))
        self._line += 1
        self._tail.clear()
        self._skipping = True


def _plain_cells(line: str, delimiter: str) -> list[str] | None:
    """Split a line; None if its quotes may span lines."""
    try:
        return cells_of(line, delimiter)
    except OpenQuoteError:
        return None


def _normalised(
    field: str, value: str, rewrite: Callable[[object], object], problems: list[tuple[str, Refusal]]
) -> str:
    """Rewrite a value, or add why it is rejected."""
    try:
        return str(rewrite(value))
    except RefusedValueError as error:
        problems.append((field, error.refusal))
        return value


def _excerpt(lines: list[str]) -> str:
    """Shorten a row, without what PostgreSQL can't store: bytes that are not UTF-8, and NUL."""
    row = "\n".join(lines)[:MAX_EXCERPT].replace("\x00", "\ufffd")
    return row.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

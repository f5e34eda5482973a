"""Join CSV lines into rows where quotes span lines, in a single forward pass.

Whether a line ends a quote does not depend on where the quote was opened, so no line is read again for each quote that
may be open there. Each line is read once as the beginning of a row, once as quoted content, and once more if it is part
of a joined row.
"""

import csv
from collections import deque
from collections.abc import Iterator
from enum import Enum, auto

Record = tuple[list[str] | None, list[str]]  # the cells, None if the quotes are malformed; the lines


class QuotedLines:
    """Collects lines with quotes. Feed it each line that has a quote, and every line while a quote is `open`."""

    def __init__(self, *, limit: int, delimiter: str) -> None:
        """Set the limit: the most characters that a quote may join."""
        self._limit = limit
        self._delimiter = delimiter
        self._waiting: deque[str] = deque()  # the first line opens a quote, the others leave it open
        self._size = 0

    @property
    def open(self) -> bool:
        return bool(self._waiting)

    def feed(self, line: str) -> Iterator[Record]:
        """Return the complete rows. A quote that is malformed, or not closed within the limit, costs only its line."""
        inside = _inside(line, self._delimiter) if self._waiting else _Inside.OPEN
        self._waiting.append(line)
        self._size += len(line) + 1
        if len(self._waiting) == 1:
            yield from self._begin()
        while self._size > self._limit or (inside is _Inside.BROKEN and len(self._waiting) > 1):
            yield from self._drop_first()
        if inside is _Inside.CLOSED and len(self._waiting) > 1:
            yield self._joined()

    def flush(self) -> Iterator[Record]:
        while self._waiting:
            yield from self._drop_first()

    def _begin(self) -> Iterator[Record]:
        """Return the waiting rows up to a line that opens a quote."""
        while self._waiting:
            try:
                cells = cells_of(self._waiting[0], self._delimiter)
            except OpenQuoteError:
                return
            yield cells, [self._next()]

    def _drop_first(self) -> Iterator[Record]:
        yield None, [self._next()]
        yield from self._begin()

    def _next(self) -> str:
        line = self._waiting.popleft()
        self._size -= len(line) + 1
        return line

    def _joined(self) -> Record:
        lines = list(self._waiting)
        self._waiting.clear()
        self._size = 0
        return next(_csv_reader((line + "\n" for line in lines), self._delimiter)), lines


class OpenQuoteError(Exception):
    pass


def cells_of(line: str, delimiter: str) -> list[str] | None:
    """Split a line; None if its quotes are malformed. Raises OpenQuoteError for a quote that may close later."""
    if '"' not in line:
        return line.split(delimiter)
    try:
        return _read(line, delimiter)
    except OpenQuoteError:
        if line.count('"') % 2:
            raise
        return None  # a quote inside a value, before the one that is left open


class _Inside(Enum):
    """The effect of a line on a quote opened before it. BROKEN: text follows the closing quote."""

    OPEN = auto()
    CLOSED = auto()
    BROKEN = auto()


def _inside(line: str, delimiter: str) -> _Inside:
    if '"' not in line:
        return _Inside.OPEN
    try:
        return _Inside.BROKEN if _read('"' + line, delimiter) is None else _Inside.CLOSED
    except OpenQuoteError:
        return _Inside.OPEN


def _read(line: str, delimiter: str) -> list[str] | None:
    try:
        return next(_csv_reader(_single_line(line), delimiter))
    except csv.Error:
        return None


def _csv_reader(lines: Iterator[str], delimiter: str) -> Iterator[list[str]]:
    return csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)


def _single_line(line: str) -> Iterator[str]:
    """Yield one line, then raise: the csv module asks for another line only while a quote is open."""
    yield line
    raise OpenQuoteError

"""Lines into rows where quotes may join them, in one pass forward.

Whether a line ends a quote does not depend on where that quote was opened, so no line is read again for each quote that
may be open there: it is read once as the beginning of a row, once as what a quote encloses, and once more where it is
part of a joined row.
"""

import csv
from collections import deque
from collections.abc import Iterator
from enum import Enum, auto

Record = tuple[list[str] | None, list[str]]  # the cells, none where the quotes make no sense; the lines


class QuotedLines:
    """Give it each line of a file that has a quote, and each line at all while it is `open`."""

    def __init__(self, *, limit: int) -> None:
        """`limit`: characters of the lines that a quote may join."""
        self._limit = limit
        self._waiting: deque[str] = deque()  # the first line opens a quote, the others leave it open
        self._size = 0

    @property
    def open(self) -> bool:
        return bool(self._waiting)

    def take(self, line: str) -> Iterator[Record]:
        """What is a row now. A quote that does not close within the limit, or not as it should, costs its own line."""
        inside = _inside(line) if self._waiting else _Inside.OPEN
        self._waiting.append(line)
        self._size += len(line) + 1
        if len(self._waiting) == 1:
            yield from self._begin()
        while self._size > self._limit or (inside is _Inside.BROKEN and len(self._waiting) > 1):
            yield from self._give_up()
        if inside is _Inside.CLOSED and len(self._waiting) > 1:
            yield self._joined()

    def flush(self) -> Iterator[Record]:
        """There are no more lines."""
        while self._waiting:
            yield from self._give_up()

    def _begin(self) -> Iterator[Record]:
        """The rows of what waits, up to a line that opens a quote."""
        while self._waiting:
            try:
                cells = cells_of(self._waiting[0])
            except OpenQuoteError:
                return
            yield cells, [self._next()]

    def _give_up(self) -> Iterator[Record]:
        yield None, [self._next()]
        yield from self._begin()

    def _next(self) -> str:
        line = self._waiting.popleft()
        self._size -= len(line) + 1
        return line

    def _joined(self) -> Record:
        given = list(self._waiting)
        self._waiting.clear()
        self._size = 0
        reader = csv.reader((line + "\n" for line in given), strict=True, skipinitialspace=True)
        return next(reader), given


class OpenQuoteError(Exception):
    pass


def cells_of(line: str) -> list[str] | None:
    """None where the quotes make no sense. Raises OpenQuoteError for a line with a quote that may close later."""
    if '"' not in line:
        return line.split(",")
    try:
        return _read(line)
    except OpenQuoteError:
        if line.count('"') % 2:
            raise
        return None  # a quote in the middle of a value before the one that is left open


class _Inside(Enum):
    """What a line does to a quote that was opened before it; the last: text stands after the closing quote."""

    OPEN = auto()
    CLOSED = auto()
    BROKEN = auto()


def _inside(line: str) -> _Inside:
    if '"' not in line:
        return _Inside.OPEN
    try:
        return _Inside.BROKEN if _read('"' + line) is None else _Inside.CLOSED
    except OpenQuoteError:
        return _Inside.OPEN


def _read(line: str) -> list[str] | None:
    try:
        return next(csv.reader(_alone(line), strict=True, skipinitialspace=True))
    except csv.Error:
        return None


def _alone(line: str) -> Iterator[str]:
    """The csv module asks for another line only while a quote is open."""
    yield line
    raise OpenQuoteError

"""Preview the import of a file: its first rows, valid or rejected."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from msgspec import Struct

from mailing.clients.csv_reader import MAX_LINE_BYTES, CsvReader, ParsedRow, RejectedField

MAX_ROWS = 20


class PreviewedRow(Struct):
    """A valid row with its `client`, or a rejected one with `rejected_fields`. `known`: a client has this phone."""

    line: int
    client: ParsedRow | None = None
    rejected_fields: list[RejectedField] = []
    known: bool = False


class Preview(Struct):
    """The first MAX_ROWS rows, and how the file was read; `complete` if it has no more rows."""

    encoding: str
    delimiter: str
    columns: Sequence[str]
    rows: list[PreviewedRow]
    complete: bool


def preview(beginning: bytes, *, complete: bool) -> Preview:
    """Parse the beginning of a file; with `complete` it is the whole file. Raises Invalid if the header is wrong."""
    reader = CsvReader()
    rows = [
        row
        for at in range(0, len(beginning), MAX_LINE_BYTES)
        for row in reader.feed(beginning[at : at + MAX_LINE_BYTES])
    ]
    if complete:
        rows += reader.finish()
    previewed = _in_order(rows, reader.rejected_fields)
    return Preview(
        encoding=reader.encoding,
        delimiter=reader.delimiter or "",
        columns=reader.columns,
        rows=previewed[:MAX_ROWS],
        complete=complete and len(previewed) <= MAX_ROWS,
    )


def _in_order(rows: Sequence[ParsedRow], rejected_fields: Sequence[RejectedField]) -> list[PreviewedRow]:
    rejected: Mapping[int, list[RejectedField]] = defaultdict(list)
    for each in rejected_fields:
        rejected[each.line].append(each)
    valid = [PreviewedRow(row.line, client=row) for row in rows]
    invalid = [PreviewedRow(line, rejected_fields=found) for line, found in rejected.items()]
    return sorted([*valid, *invalid], key=lambda row: row.line)

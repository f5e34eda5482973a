"""What an import would make of the first rows of a file."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from msgspec import Struct

from mailing.clients.csv_reader import MAX_LINE_BYTES, CsvReader, ParsedRow, RejectedField

MAX_ROWS = 20


class PreviewedRow(Struct):
    """Either right, with `client`, or with `refusals`; `known` tells that a client has this phone already."""

    line: int
    client: ParsedRow | None = None
    rejected_fields: list[RejectedField] = []
    known: bool = False


class Preview(Struct):
    """The first ROWS rows; `complete` when the file has no more."""

    columns: Sequence[str]
    rows: list[PreviewedRow]
    complete: bool


def preview(beginning: bytes, *, complete: bool) -> Preview:
    """Raises Invalid when the header is wrong. `complete`: the beginning is the whole file."""
    reading = CsvReader()
    rows = [
        row
        for at in range(0, len(beginning), MAX_LINE_BYTES)
        for row in reading.feed(beginning[at : at + MAX_LINE_BYTES])
    ]
    if complete:
        rows += reading.finish()
    judged = _in_order(rows, reading.rejected_fields)
    return Preview(columns=reading.columns, rows=judged[:MAX_ROWS], complete=complete and len(judged) <= MAX_ROWS)


def _in_order(rows: Sequence[ParsedRow], refusals: Sequence[RejectedField]) -> list[PreviewedRow]:
    refused: Mapping[int, list[RejectedField]] = defaultdict(list)
    for refusal in refusals:
        refused[refusal.line].append(refusal)
    right = [PreviewedRow(row[0], client=row) for row in rows]
    wrong = [PreviewedRow(line, rejected_fields=found) for line, found in refused.items()]
    return sorted([*right, *wrong], key=lambda row: row.line)

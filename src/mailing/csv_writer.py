"""CSV for spreadsheets: the one way in which this service writes it, so that no cell is taken for a formula.

Which separator a spreadsheet splits at is its own decision: it depends on the country, and on who opens the file. So a
cell may begin after each comma, semicolon, tab, bar and line break, whatever the file means by them.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence

SEPARATORS = ",;|\t\r\n"
SIGNS = "=+\\-@＝＋－＠"  # noqa: RUF001 - what begins a formula, the full-width forms on purpose
# What a spreadsheet passes over before a formula: blanks, quotes, and what can't be seen
_PASSED = "\"'\\s\x00-\x20\x7f-\xa0\u200b-\u200f\u2060\ufeff"

# As many of them as there are, before a sign. It is tried once for each such stretch, not at each of its characters.
_START = re.compile(
    f"(?:^[{_PASSED}{SEPARATORS}]*+|(?<![{_PASSED}{SEPARATORS}])[{_PASSED}{SEPARATORS}]++)(?=[{SIGNS}])"
)
_SIGN = re.compile(f"[{SIGNS}]").search
_SEPARATOR = re.compile(f"[{SEPARATORS}]").search


def escape_formula(cell: str) -> str:
    """An apostrophe before each sign with which a cell could begin. `restored` takes exactly those away."""
    return _START.sub(_with_apostrophe, cell) if _SIGN(cell) else cell


def unescape_formula(cell: str) -> str:
    return _START.sub(_without_apostrophe, cell) if _SIGN(cell) else cell


def _with_apostrophe(start: re.Match[str]) -> str:
    return f"{start[0]}'" if _begins_cell(start) else start[0]


def _without_apostrophe(start: re.Match[str]) -> str:
    return start[0].removesuffix("'") if _begins_cell(start) else start[0]


def _begins_cell(start: re.Match[str]) -> bool:
    return start.start() == 0 or _SEPARATOR(start[0]) is not None


def csv_of(rows: Iterable[Sequence[object]]) -> str:
    """What is text in `rows` is neutralised; numbers and None are not."""
    file = io.StringIO()
    csv.writer(file).writerows(
        [escape_formula(cell) if isinstance(cell, str) else cell for cell in row] for row in rows
    )
    return file.getvalue()

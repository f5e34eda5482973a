"""Write CSV for spreadsheets so that no cell is taken for a formula (CSV injection). All CSV is written here.

Which separator a spreadsheet uses depends on its locale and its user. So a cell may begin after every comma, semicolon,
tab, bar and line break, also those of Unicode, whatever they mean in the file.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence

BYTE_ORDER_MARK = "\ufeff"  # begins each file: without it Excel reads UTF-8 as the code page of its locale

SEPARATORS = ",;|，；\t\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029"  # noqa: RUF001 - full-width forms included
SIGNS = "=+\\-@＝＋－＠"  # noqa: RUF001 - the characters that start a formula, full-width forms included
# Characters that a spreadsheet skips before a formula: blanks, quotes and invisible characters
_SKIPPED = "\"'\\s\x00-\x20\x7f-\xa0\u200b-\u200f\u2060\ufeff"

# A maximal run of them before a sign. Possessive, so each run is tried once and not at each of its characters.
_START = re.compile(
    f"(?:^[{_SKIPPED}{SEPARATORS}]*+|(?<![{_SKIPPED}{SEPARATORS}])[{_SKIPPED}{SEPARATORS}]++)(?=[{SIGNS}])"
)
_SIGN = re.compile(f"[{SIGNS}]").search
_SEPARATOR = re.compile(f"[{SEPARATORS}]").search


def escape_formula(cell: str) -> str:
    """Put an apostrophe before each sign that could start a cell. `unescape_formula` removes exactly those."""
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
    """Write rows as CSV, with formulas escaped in text cells."""
    file = io.StringIO()
    csv.writer(file).writerows(
        [escape_formula(cell) if isinstance(cell, str) else cell for cell in row] for row in rows
    )
    return file.getvalue()

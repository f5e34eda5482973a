"""Write CSV for spreadsheets so that no cell is taken for a formula (CSV injection). All CSV is written here.

Which separator a spreadsheet uses depends on its locale and its user. So each comma, semicolon, tab, bar and line
break, Unicode's included, is treated as if a cell began after it.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence

BYTE_ORDER_MARK = "\ufeff"  # begins each file: without it Excel reads UTF-8 as the code page of its locale

SEPARATORS = ",;|，；\t\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029"  # noqa: RUF001 - full-width forms included
SIGNS = "=+\\-@＝＋－＠"  # noqa: RUF001 - the characters that start a formula, full-width forms included
QUOTES = "\"'"

_SIGN = re.compile(f"[{SIGNS}]")
_ESCAPED_SIGN = re.compile(f"'([{SIGNS}])")


def escape_formula(cell: str) -> str:
    """Put an apostrophe before each sign that could start a cell. `unescape_formula` removes exactly those."""
    return _SIGN.sub(lambda sign: f"'{sign[0]}" if _begins_cell(cell, sign.start()) else sign[0], cell)


def unescape_formula(cell: str) -> str:
    return _ESCAPED_SIGN.sub(lambda sign: sign[1] if _begins_cell(cell, sign.start(1)) else sign[0], cell)


def _begins_cell(cell: str, end: int) -> bool:
    """Whether only characters that a spreadsheet skips stand between the previous separator and `end`.

    Goes back at most to the previous sign, so that all signs of a text together read each character once.
    """
    while end:
        end -= 1
        if cell[end] in SEPARATORS:
            return True
        if cell[end].isprintable() and not cell[end].isspace() and cell[end] not in QUOTES:
            return False
    return True


def csv_of(rows: Iterable[Sequence[object]]) -> str:
    """Write rows as CSV, with formulas escaped in text cells."""
    file = io.StringIO()
    csv.writer(file).writerows(
        [escape_formula(cell) if isinstance(cell, str) else cell for cell in row] for row in rows
    )
    return file.getvalue()

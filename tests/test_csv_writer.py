"""What a spreadsheet makes of our CSV, whatever it splits at. The oracle is the csv module, told each separator."""

import ast
import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mailing
from mailing.clients.csv_reader import CsvReader
from mailing.clients.tag import is_tag
from mailing.csv_writer import SEPARATORS, csv_of, escape_formula, unescape_formula

SIGNS = "=+-@＝＋－＠"  # noqa: RUF001 - full-width on purpose
PIECES = [*SIGNS, *SEPARATORS, *" \"'", "\u00a0", "\ufeff", "\x01", "a", "1", "=cmd|'/C calc'!A1", '""', "\r\n"]
CELLS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=20)
TAGS = CELLS.map(str.strip).filter(is_tag)
PAYLOADS = [
    "=1+1",
    "x;=cmd|'/C calc'!A1;y",
    "\t=1+1",
    "x\t=1",
    "x,=1",
    "x\r=1",
    "x\n=1",
    "x; =1",
    'x;"=1";y',
    "x;'=1",
    "x|@SUM(1)",
    " +1",
    "\x00-1",
    "x;＝1",  # noqa: RUF001 - full-width on purpose
    "\u00ad=1",  # invisible, unassigned, of another plane
    "\ud7fc@1",
    "x;\U000e0001=1",
    *(f"x{separator}=1" for separator in (*SEPARATORS, "\u2028 ", "\x85'")),
]


def calculated(cell: str) -> bool:
    """Whatever a spreadsheet may pass over before it."""
    seen = "".join(sign for sign in cell if sign.isprintable() and not sign.isspace()).lstrip('"')
    return seen[:1] != "" and seen[0] in SIGNS


def cells_of(file: str, separator: str) -> list[str]:
    """As a spreadsheet would split it, and as one that knows no quotes."""
    read = [cell for row in csv.reader(io.StringIO(file, newline=""), delimiter=separator) for cell in row]
    split = [cell for line in file.splitlines() for cell in line.split(separator)]
    return read + split


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "，", "；"])  # noqa: RUF001 - full-width on purpose
@pytest.mark.parametrize("payload", PAYLOADS, ids=repr)
def test_no_cell_of_a_file_is_a_formula_whatever_it_is_split_at(payload: str, separator: str) -> None:
    file = csv_of([("id", "text"), (7, payload), (8, f"a{payload}")])
    assert [cell for cell in cells_of(file, separator) if calculated(cell)] == []


@given(st.lists(CELLS, min_size=1, max_size=4), st.sampled_from(",;\t|"))
def test_no_text_whatever_makes_a_formula(cells: list[str], separator: str) -> None:
    file = csv_of([("a", *cells)])
    assert [cell for cell in cells_of(file, separator) if calculated(cell)] == []


@given(CELLS)
def test_what_was_neutralised_comes_back_as_it_was(cell: str) -> None:
    assert unescape_formula(escape_formula(cell)) == cell


@given(st.lists(TAGS, min_size=1, max_size=20))
def test_tags_survive_a_csv_file(tags: list[str]) -> None:
    file = csv_of([("phone", "tag", "timezone"), *(("79161234567", tag, "UTC") for tag in tags)])
    reading = CsvReader()
    rows = reading.feed(file.encode()) + reading.finish()
    assert [row[3] for row in rows] == tags
    assert reading.rejected_fields == []


def test_numbers_stay_numbers() -> None:
    assert csv_of([(-1, None, 0.5, "-1")]) == "-1,,0.5,'-1\r\n"


def test_nothing_else_writes_csv() -> None:
    """Whoever does would have to think of formulas again."""
    home = Path(mailing.__file__).parent
    writers = [path.relative_to(home).as_posix() for path in home.rglob("*.py") if writes_csv(path)]
    assert writers == ["csv_writer.py"]


def writes_csv(path: Path) -> bool:
    named = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute))
    return any(
        isinstance(node.value, ast.Name) and f"{node.value.id}.{node.attr}" in {"csv.writer", "csv.DictWriter"}
        for node in named
    )

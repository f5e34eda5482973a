"""The header of a CSV file: its separator and its columns."""

import re
import unicodedata
from collections.abc import Callable, Iterator
from itertools import islice
from operator import itemgetter
from typing import NamedTuple

from mailing.errors import Invalid
from mailing.reasons.refusals import Refusal, RefusalCode, RefusedField

COLUMNS = ("phone", "operator_code", "tag", "timezone", "opted_out")
DELIMITERS = (",", ";", "\t", "|")  # if several fit equally well, the first
MAX_HEADER_PROBLEMS = 20  # a header of 64 KiB has room for thousands

UNDECODED = re.compile("[\ud800-\udfff]").search  # surrogateescape decodes invalid bytes to these
_SEP_LINE = re.compile(r'"?sep=([,;\t|])"?[,;\t|]*\s*', re.IGNORECASE).fullmatch  # how Excel is told the separator


class Header(NamedTuple):
    """`width` counts the cells, `unnamed` are those without a name, `pick` takes the cells in the order of COLUMNS."""

    columns: tuple[str, ...]
    width: int
    unnamed: list[int]
    pick: Callable[[list[str]], tuple[str, str, str, str, str]]


def named_delimiter(line: str) -> str | None:
    named = _SEP_LINE(line)
    return named[1] if named else None


def likely_delimiter(line: str) -> str:
    """Return the separator by which a line has the most names of columns."""
    return max(DELIMITERS, key=lambda sign: len({_column_name(cell) for cell in line.split(sign)} & {*COLUMNS}))


def read_header(cells: list[str]) -> Header:
    """Raise Invalid with the problems of the header."""
    names = [_column_name(cell) for cell in cells]
    if problems := list(islice(_problems(names), MAX_HEADER_PROBLEMS)):
        raise bad_header(*problems)
    # a missing column is taken from the empty cell behind the row's end
    pick = itemgetter(*(names.index(name) if name in names else len(names) for name in COLUMNS))
    columns, unnamed = tuple(filter(None, names)), [at for at, name in enumerate(names) if not name]
    return Header(columns, len(names), unnamed, pick)


def bad_header(*refusals: Refusal) -> Invalid:
    return Invalid(*(RefusedField("header", refusal.words(), refusal) for refusal in refusals))


def _column_name(cell: str) -> str:
    return "".join(sign for sign in cell if unicodedata.category(sign) != "Cf").strip(' "\xa0').lower()


def _problems(names: list[str]) -> Iterator[Refusal]:
    if UNDECODED("".join(names)) or "\x00" in "".join(names):
        yield Refusal(RefusalCode.unknown_encoding)
        return
    for place, name in enumerate(names, start=1):
        if name and name not in COLUMNS:
            yield Refusal(RefusalCode.unknown_column, {"place": place, "columns": ",".join(COLUMNS)})
        elif name and name in names[: place - 1]:
            yield Refusal(RefusalCode.repeated_column, {"name": name})
    required = ("phone",) if "opted_out" in names else ("phone", "timezone")
    yield from (Refusal(RefusalCode.missing_column, {"name": name}) for name in required if name not in names)

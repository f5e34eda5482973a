"""Rows as structs, by the names of their columns, so that swapped columns are not mistaken for each other."""

from collections.abc import Sequence
from typing import Any, TypeVar

import asyncpg
import msgspec
from sqlalchemy import CursorResult, Executable, Result
from sqlalchemy.ext.asyncio import AsyncSession

Row = TypeVar("Row", bound=msgspec.Struct)


def all_as(struct: type[Row], result: Result[*tuple[Any, ...]]) -> list[Row]:
    """Return every row. Each field takes the column of its name; raises where a column is missing."""
    return [struct(*row) for row in result.columns(*struct.__struct_fields__)]


def first_as(struct: type[Row], result: Result[*tuple[Any, ...]]) -> Row | None:
    row = result.columns(*struct.__struct_fields__).first()
    return struct(*row) if row else None


def one_as(struct: type[Row], result: Result[*tuple[Any, ...]]) -> Row:
    return struct(*result.columns(*struct.__struct_fields__).one())


def records_as(struct: type[Row], records: Sequence[asyncpg.Record]) -> list[Row]:
    """Return every record of the driver. Raises where the columns are others, or in another order, than the fields.

    The names are compared once. To look each value up by its name took six times as long.
    """
    if records and tuple(records[0].keys()) != struct.__struct_fields__:
        raise TypeError(f"{struct.__name__} has other fields than the statement has columns")
    return [struct(*record) for record in records]


async def rows_affected(session: AsyncSession, statement: Executable, **values: object) -> int:
    """Execute a statement that returns no columns; return how many rows it changed or locked."""
    result = await session.execute(statement, values)
    return result.rowcount if isinstance(result, CursorResult) else 0

"""How PostgreSQL carries out a statement: which index it takes, how many rows it reads."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine


async def scans(
    engine: AsyncEngine, statement: TextClause, *, analyse: bool = True, **values: object
) -> list[dict[str, Any]]:
    """The plan's nodes that read a table or an index, after it ran; nothing of it is kept.

    Without `analyse` the planner knows what it knew before the rows came, as right after a mailing was planned.
    """
    async with engine.connect() as connection:
        if analyse:
            await connection.execute(text("ANALYZE"))
        plan = await _ran(connection, statement, values)
    return [node for node in _nodes(plan) if "Relation Name" in node or "Index Name" in node]


async def buffers(engine: AsyncEngine, statement: TextClause, **values: object) -> int:
    """Pages of tables and indexes that it looks at, its triggers left out; nothing of it is kept."""
    async with engine.connect() as connection:
        plan = await _ran(connection, statement, values)
    looked_at: int = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return looked_at


async def _ran(connection: AsyncConnection, statement: TextClause, values: Mapping[str, object]) -> dict[str, Any]:
    found = await connection.scalar(text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.text}"), values)
    await connection.rollback()
    assert found is not None
    plan: dict[str, Any] = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return plan


def read(node: dict[str, Any]) -> int:
    """Rows that it read, those it left out included."""
    kept_and_left = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
    rows: int = round(kept_and_left * node["Actual Loops"])
    return rows


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)

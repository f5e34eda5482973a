"""How PostgreSQL carries out a statement: which index it takes, how many rows it reads."""

import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine


async def scans(
    engine: AsyncEngine, statement: TextClause, *, analyse: bool = True, **values: object
) -> list[dict[str, Any]]:
    """The plan's nodes that read a table or an index, after it ran; nothing of it is kept.

    Without `analyse` the planner knows what it knew before the rows came, as right after a mailing was planned.
    """
    async with engine.connect() as connection:
        if analyse:
            await connection.execute(text("ANALYZE"))
        found = await connection.scalar(text(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.text}"), values)
        await connection.rollback()
    assert found is not None
    plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return [node for node in _nodes(plan) if "Relation Name" in node or "Index Name" in node]


def read(node: dict[str, Any]) -> int:
    """Rows that it read, those it left out included."""
    kept_and_left = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
    rows: int = round(kept_and_left * node["Actual Loops"])
    return rows


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)

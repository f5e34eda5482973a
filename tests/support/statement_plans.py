"""What a statement does, read from its plan."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


async def explained(session: AsyncSession, sql: str) -> dict[str, Any]:
    found = (await session.execute(text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}"))).scalar_one()
    top: dict[str, Any] = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return top


async def explained_prepared(session: AsyncSession, statement: str, values: Sequence[object]) -> dict[str, Any]:
    """Explain a statement with `$1`, `$2` …, as the driver prepares it."""
    await session.execute(text("PREPARE explained AS " + statement))
    given = ", ".join(f"'{value}'" if isinstance(value, str) else str(value) for value in values)
    found = await explained(session, f"EXECUTE explained({given})")
    await session.execute(text("DEALLOCATE explained"))
    return found


def nodes(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node, *(below for child in node.get("Plans", []) for below in nodes(child))]


def blocks(top: dict[str, Any]) -> int:
    read: int = top["Shared Hit Blocks"] + top["Shared Read Blocks"]
    return read

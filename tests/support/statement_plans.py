"""What a statement does, read from its plan."""

import json
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


async def explained(session: AsyncSession, sql: str) -> dict[str, Any]:
    found = (await session.execute(text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}"))).scalar_one()
    top: dict[str, Any] = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return top


def nodes(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node, *(below for child in node.get("Plans", []) for below in nodes(child))]


def blocks(top: dict[str, Any]) -> int:
    read: int = top["Shared Hit Blocks"] + top["Shared Read Blocks"]
    return read

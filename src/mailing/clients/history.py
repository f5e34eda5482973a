"""What was done to a client, and by whom."""

from datetime import datetime

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

# Index: event_of_client.
_NEWEST = text("SELECT at, kind, actor FROM event WHERE client_id = :client_id ORDER BY id DESC LIMIT :count")


class Happened(Struct):
    at: datetime
    kind: str
    by: str


async def newest_events(session: AsyncSession, client_id: int, *, count: int) -> list[Happened]:
    return [Happened(*row) for row in await session.execute(_NEWEST, {"client_id": client_id, "count": count})]

"""What people and programs did to a mailing, without its calls and single messages: those have stories of their own."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

NEWEST = 50


class Act(Struct, frozen=True):
    """`kind` as in `events.note`."""

    at: datetime
    kind: str
    actor: str
    detail: dict[str, Any]


# Index: event_of_audience, backwards.
_ACTS = text(f"""
    SELECT at, kind, actor, detail FROM event WHERE mailing_id = :id AND message_id IS NULL
    ORDER BY at DESC, id DESC LIMIT {NEWEST}
""")  # noqa: S608 - constants of this module


async def acts_on_mailing(session: AsyncSession, mailing_id: int) -> list[Act]:
    """The newest, oldest first."""
    return [Act(*row) for row in await session.execute(_ACTS, {"id": mailing_id})][::-1]

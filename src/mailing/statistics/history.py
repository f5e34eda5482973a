"""What people and programs did to a mailing and to one message, oldest first."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

NEWEST = 50
LOOKED_AT = 500  # acts on single messages stand between those on the mailing


class Act(Struct, frozen=True):
    """`kind` as in `events.note`."""

    at: datetime
    kind: str
    actor: str
    detail: dict[str, Any]


# Index: event_of_mailing, backwards.
_OF_MAILING = text(f"""
    SELECT at, kind, actor, detail FROM (
        SELECT * FROM event WHERE mailing_id = :id ORDER BY mailing_id, id DESC LIMIT {LOOKED_AT}) newest
    WHERE message_id IS NULL ORDER BY id DESC LIMIT {NEWEST}
""")  # noqa: S608 - constants of this module

# Index: event_of_message.
_OF_MESSAGE = text(f"""
    SELECT at, kind, actor, detail FROM event WHERE message_id = :id ORDER BY message_id, id DESC LIMIT {NEWEST}
""")  # noqa: S608 - constants of this module


async def acts_on_mailing(session: AsyncSession, mailing_id: int) -> list[Act]:
    """The newest; those on its single messages are left out."""
    return [Act(*row) for row in await session.execute(_OF_MAILING, {"id": mailing_id})][::-1]


async def acts_on_message(session: AsyncSession, message_id: int) -> list[Act]:
    return [Act(*row) for row in await session.execute(_OF_MESSAGE, {"id": message_id})][::-1]

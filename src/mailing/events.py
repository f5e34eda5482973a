"""What people and programs did, and who: written in the transaction that did it."""

import json

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_NOTE = text("""
    INSERT INTO event (kind, actor, mailing_id, message_id, client_id, detail)
    VALUES (:kind, :actor, :mailing_id, :message_id, :client_id, CAST(:detail AS jsonb))
""")


async def note(
    session: AsyncSession,
    kind: str,
    *,
    by: str,
    mailing_id: int | None = None,
    message_id: int | None = None,
    client_id: int | None = None,
    **detail: object,
) -> None:
    """`kind` is noun and participle, such as `mailing.paused`; `detail` is JSON without phone, text or secret."""
    ids = {"mailing_id": mailing_id, "message_id": message_id, "client_id": client_id}
    await session.execute(_NOTE, {"kind": kind, "actor": by, "detail": json.dumps(detail)} | ids)

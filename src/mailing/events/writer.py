"""What people and programs did, and who: written in the transaction that did it."""

import json

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.observability import log

COMMAND_LINE = "command line"
WORKER = "worker"  # who does what nobody asked for at that moment

_INSERT = text("""
    INSERT INTO event (kind, actor, mailing_id, message_id, client_id, request_id, detail)
    VALUES (:kind, :actor, :mailing_id, :message_id, :client_id, :request_id, CAST(:detail AS jsonb))
""")


async def record_event(
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
    log.add_fields(**{name: id_ for name, id_ in ids.items() if id_ is not None})
    told = {"kind": kind, "actor": by, "request_id": log.request_id(), "detail": json.dumps(detail)}
    await session.execute(_INSERT, told | ids)

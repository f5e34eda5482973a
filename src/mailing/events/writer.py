"""Writing of events, in the transaction that makes the change."""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.observability import log

COMMAND_LINE = "command line"
WORKER = "worker"  # the actor of changes that no caller requested

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
    """Record an event. `kind` is like `mailing.paused`: noun, participle. `detail` has no phone, text or secret."""
    ids = {"mailing_id": mailing_id, "message_id": message_id, "client_id": client_id}
    log.add_fields(**{name: id_ for name, id_ in ids.items() if id_ is not None})
    values = {"kind": kind, "actor": by, "request_id": log.request_id(), "detail": json.dumps(detail)}
    await session.execute(_INSERT, values | ids)


def difference(before: Mapping[str, Any], after: Mapping[str, Any], *, hidden: str) -> dict[str, Any]:
    """Describe a change: the fields that differ, with their old and new values; of `hidden` only that it changed."""
    fields = [name for name in before if before[name] != after[name]]
    shown = [name for name in fields if name != hidden]
    return {
        "fields": fields,
        "old": {name: before[name] for name in shown},
        "new": {name: after[name] for name in shown},
    }

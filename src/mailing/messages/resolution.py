"""Transitions out of a final state: an operator resends failed messages, or resolves unknown ones.

A message that is pending again keeps its id and history and has a void window: `reschedule_closed` computes the next.
"""

import json

from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.engine import execute_long
from mailing.messages.schemas import Resolution

# failed → pending. Index: message_listed, then the clients by primary key. A million: 54 s.
_RESEND_FAILED = """
    UPDATE message m SET
        status = 'pending', soft_refusals = 0, due_at = now(), closes_at = '-infinity', finished_at = NULL
    FROM client c
    WHERE m.mailing_id = $1 AND m.status = 'failed' AND c.id = m.client_id AND NOT c.opted_out
"""


async def resend_failed(session: AsyncSession, mailing_id: int) -> int:
    """Resend failed messages, except to clients that are deleted or have opted out."""
    return await execute_long(session, _RESEND_FAILED, mailing_id)


# unknown → sent, failed or pending, and an event for each. A pending one may have been accepted, so it stays
# ambiguous and is repeated with the same text to the same phone, unless that was erased. Index: the primary key, or
# message_listed. A million: 85 s.
_RESOLVE = """
    WITH moved AS (
        UPDATE message m SET
            status = $2::text, maybe_accepted = $2 <> 'failed', soft_refusals = 0,
            due_at = CASE $2 WHEN 'pending' THEN now() ELSE m.due_at END,
            closes_at = CASE $2 WHEN 'pending' THEN '-infinity' ELSE m.closes_at END,
            finished_at = CASE WHEN $2 <> 'pending' THEN now() END,
            status_reason = CASE $2 WHEN 'pending' THEN m.status_reason
                                    WHEN 'failed' THEN 'resolved as not delivered' END
        WHERE {whose} = $1 AND m.status = 'unknown'
          AND ($2 <> 'pending' OR m.phone IS NOT NULL
               AND EXISTS (SELECT FROM client c WHERE c.id = m.client_id AND NOT c.opted_out))
        RETURNING m.id, m.mailing_id, m.client_id
    )
    INSERT INTO event (kind, actor, mailing_id, message_id, client_id, detail)
    SELECT 'message.resolved', $3::text, mailing_id, id, client_id, $4::jsonb FROM moved ORDER BY id
"""
_RESOLVE_ONE = _RESOLVE.format(whose="m.id")
_RESOLVE_ALL = _RESOLVE.format(whose="m.mailing_id")


async def resolve_message(session: AsyncSession, message_id: int, resolution: Resolution, *, by: str) -> bool:
    """Resolve a message. False: it is not unknown, or its client is deleted or opted out, or its phone was erased."""
    return await _resolve(session, _RESOLVE_ONE, message_id, resolution, by) > 0


async def resolve_all_unknown(session: AsyncSession, mailing_id: int, resolution: Resolution, *, by: str) -> int:
    return await _resolve(session, _RESOLVE_ALL, mailing_id, resolution, by)


async def _resolve(session: AsyncSession, statement: str, of: int, resolution: Resolution, by: str) -> int:
    detail = json.dumps({"as": resolution.as_, "note": resolution.note})
    return await execute_long(session, statement, of, resolution.as_, by, detail)

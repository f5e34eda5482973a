"""Ways out of a final status: an operator sends failed messages again, or states what became of unknown ones.

A message that is pending again keeps its id and history. Its window is void: `reschedule_closed` finds the next one.
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
    WHERE m.mailing_id = $1 AND m.phase = 'failed' AND c.id = m.client_id AND NOT c.opted_out
"""


async def resend_failed(session: AsyncSession, mailing_id: int) -> int:
    """Send failed messages again, except to clients that are gone or have opted out. Return how many."""
    return await execute_long(session, _RESEND_FAILED, mailing_id)


# unknown → sent, failed or pending, and an event for each. A pending one may have been accepted all the same: it stays
# ambiguous, and is called again with the same text and phone, unless the phone was erased. Index: the primary key, or
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
        WHERE {rows} = $1 AND m.phase = 'unknown'
          AND ($2 <> 'pending' OR m.phone IS NOT NULL
               AND EXISTS (SELECT FROM client c WHERE c.id = m.client_id AND NOT c.opted_out))
        RETURNING m.id, m.mailing_id, m.client_id
    )
    INSERT INTO event (kind, actor, mailing_id, message_id, client_id, detail)
    SELECT 'message.resolved', $3::text, mailing_id, id, client_id, $4::jsonb FROM moved ORDER BY id
"""
_RESOLVE_ONE = _RESOLVE.format(rows="m.id")
_RESOLVE_ALL = _RESOLVE.format(rows="m.mailing_id")


async def resolve_message(session: AsyncSession, message_id: int, resolution: Resolution, *, by: str) -> bool:
    """Return False if it is not unknown, or can't be sent again: client gone or opted out, or phone erased."""
    return await _resolve(session, _RESOLVE_ONE, message_id, resolution, by) > 0


async def resolve_all_unknown(session: AsyncSession, mailing_id: int, resolution: Resolution, *, by: str) -> int:
    return await _resolve(session, _RESOLVE_ALL, mailing_id, resolution, by)


async def _resolve(session: AsyncSession, statement: str, of: int, resolution: Resolution, by: str) -> int:
    detail = json.dumps({"as": resolution.as_, "note": resolution.note})
    return await execute_long(session, statement, of, resolution.as_, by, detail)

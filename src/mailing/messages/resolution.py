"""Transitions out of `unknown` and `failed`, by an operator or by a receipt that proves the acceptance.

A message that is pending again keeps its id and history. Its window is void: `reschedule_closed` finds the next one.
"""

import json

from sqlalchemy import text
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
    """Send failed messages again, except to clients that were deleted or have opted out. Return how many."""
    return await execute_long(session, _RESEND_FAILED, mailing_id)


# unknown → sent, failed or pending, and an event for each. A pending one may nevertheless have been accepted: it stays
# ambiguous, and is called again with the same text and phone, unless the phone was erased. Index: the primary key, or
# message_listed. A million: 85 s.
_RESOLVE = """
    WITH moved AS (
        UPDATE message m SET
            status = $2::text, maybe_accepted = $2 <> 'failed', soft_refusals = 0,
            due_at = CASE $2 WHEN 'pending' THEN now() ELSE m.due_at END,
            closes_at = CASE $2 WHEN 'pending' THEN '-infinity' ELSE m.closes_at END,
            finished_at = CASE WHEN $2 <> 'pending' THEN now() END,
            reason_code = CASE $2 WHEN 'pending' THEN m.reason_code WHEN 'failed' THEN 'resolved_failed' END,
            reason_params = CASE $2 WHEN 'pending' THEN m.reason_params END
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
    """Return False if it is not unknown, or can't be sent again: client deleted or opted out, or phone erased."""
    return await _resolve(session, _RESOLVE_ONE, message_id, resolution, by) > 0


async def resolve_all_unknown(session: AsyncSession, mailing_id: int, resolution: Resolution, *, by: str) -> int:
    return await _resolve(session, _RESOLVE_ALL, mailing_id, resolution, by)


async def _resolve(session: AsyncSession, statement: str, of: int, resolution: Resolution, by: str) -> int:
    detail = json.dumps({"as": resolution.as_, "note": resolution.note})
    return await execute_long(session, statement, of, resolution.as_, by, detail)


# pending | unknown → sent, where an attempt may have been accepted and a receipt shows that one was. That includes a
# receipt that says undelivered: the provider had the message. Locked messages are left to the next scan. Indexes:
# message_doubtful, then the primary keys. 10,000 messages in doubt without a receipt: 20 ms.
_RESOLVE_BY_RECEIPTS = text("""
    WITH doubtful AS MATERIALIZED (
        SELECT id FROM message WHERE maybe_accepted AND phase IN ('open', 'unknown') AND id > :after
        ORDER BY id LIMIT :count
    ), proven AS MATERIALIZED (
        SELECT m.id FROM message m JOIN receipt r ON r.message_id = m.id
        WHERE m.id = ANY(ARRAY(SELECT id FROM doubtful)) AND m.maybe_accepted AND m.status IN ('pending', 'unknown')
        ORDER BY m.id FOR NO KEY UPDATE OF m SKIP LOCKED
    ), moved AS (
        UPDATE message m SET status = 'sent', wait_reason = NULL, finished_at = now(),
            reason_code = NULL, reason_params = NULL
        FROM proven p WHERE m.id = p.id
        RETURNING m.id, m.mailing_id, m.client_id
    ), recorded AS (
        INSERT INTO event (kind, actor, mailing_id, message_id, client_id, detail)
        SELECT 'message.resolved', 'receipt', mailing_id, id, client_id, '{"as": "sent"}' FROM moved ORDER BY id
    )
    SELECT (SELECT count(*) FROM moved) AS resolved,
        CASE WHEN (SELECT count(*) FROM doubtful) = :count THEN (SELECT max(id) FROM doubtful) END AS last
""")


async def resolve_by_receipts(session: AsyncSession, *, after: int, count: int) -> tuple[int, int | None]:
    """Resolve `count` messages in doubt behind the id `after`. Return how many, and where to continue, if anywhere."""
    row = (await session.execute(_RESOLVE_BY_RECEIPTS, {"after": after, "count": count})).one()
    return row.resolved, row.last

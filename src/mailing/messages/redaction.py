"""Remove phones from messages: of mailings that closed long ago, and of erased persons.

A message keeps its id, its client's id, its state and the number of its attempts, so no count changes.
"""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.engine import LONG_STATEMENT_S, execute_long, raw_connection
from mailing.messages.after_restore import Slice
from mailing.messages.states import MessageStatus

FINAL: Sequence[MessageStatus] = [
    status for status in MessageStatus if status not in {MessageStatus.pending, MessageStatus.sending}
]
ERASED = "the person was erased; an attempt may have arrived"

# The next messages of a mailing in one state, and what the gateway answered each time. Index: message_listed, kept to
# by the order of status and id; then the primary keys, because the planner takes no array for a long one and never
# reads a table for it. 5,000 rows: 0.15 s.
_BLANK = text("""
    WITH next AS MATERIALIZED (
        SELECT id FROM message
        WHERE mailing_id = :mailing_id AND (status, id) > (:status, CAST(:after AS bigint)) AND status <= :status
        ORDER BY status, id LIMIT :count
    ), blanked AS (
        UPDATE message m SET phone = NULL
        WHERE m.id = ANY(ARRAY(SELECT id FROM next)) AND m.phone IS NOT NULL AND m.status = :status
    ), forgotten AS (
        DELETE FROM attempt WHERE message_id = ANY(ARRAY(SELECT id FROM next))
    )
    SELECT max(id) FROM next
""")


async def blank_slice(session: AsyncSession, part: Slice) -> int | None:
    """Redact a slice. Return its last message, None after the end. `part.status` is one of FINAL."""
    values = {"mailing_id": part.mailing_id, "status": part.status.value, "after": part.after, "count": part.count}
    last: int | None = await session.scalar(_BLANK, values)
    return last


# A message keeps its phone during its call. One that may have been sent to this phone is not repeated; any other takes
# its client's new phone at the claim. It scans the table, 0.3 s for 1,000,000 messages: an index only for this would
# cost every message that is sent.
_BLANK_PHONE = """
    UPDATE message m SET phone = NULL,
        status = CASE WHEN m.status = 'pending' AND m.maybe_accepted THEN 'unknown' ELSE m.status END,
        finished_at = CASE WHEN m.status = 'pending' AND m.maybe_accepted THEN now() ELSE m.finished_at END,
        wait_reason = CASE WHEN m.status = 'pending' AND m.maybe_accepted THEN NULL ELSE m.wait_reason END,
        status_reason = CASE WHEN m.status = 'pending' AND m.maybe_accepted THEN $2 ELSE m.status_reason END
    WHERE m.phone = $1 AND m.status <> 'sending'
"""


async def blank_phone(session: AsyncSession, phone: str) -> int:
    """Remove the phone from every message that is not in a call. Return how many."""
    return await execute_long(session, _BLANK_PHONE, phone, ERASED)


_HOLDS = "SELECT EXISTS (SELECT FROM message WHERE phone = $1)"


async def holds_phone(session: AsyncSession, phone: str) -> bool:
    """Whether any message has the phone, in any state. It scans the table."""
    found: bool = await (await raw_connection(session)).fetchval(_HOLDS, phone, timeout=LONG_STATEMENT_S)
    return found


KEPT_D = 40


# Oldest first. Index: mailing_throughput_minute.
_FORGET = text(f"""
    DELETE FROM mailing_throughput WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM mailing_throughput
            WHERE minute < now() - interval '{KEPT_D} days' ORDER BY minute LIMIT :count))
""")  # noqa: S608 - a constant of this module


async def forget_old_minutes(session: AsyncSession, count: int) -> None:
    await session.execute(_FORGET, {"count": count})

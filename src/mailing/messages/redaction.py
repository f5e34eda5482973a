"""Redact phones in messages: of a mailing that closed long ago, and of a person who is erased.

A message keeps its id, its client's id, its status and the number of its attempts, so no count changes.
"""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.engine import execute_long, fetch_long
from mailing.messages.after_restore import MessageSlice
from mailing.messages.states import MessageStatus

FINAL: Sequence[MessageStatus] = [
    status for status in MessageStatus if status not in {MessageStatus.pending, MessageStatus.sending}
]

# The next messages of a mailing in one final status, their attempts and receipts. Index: message_listed, enforced by
# the order of phase and id; then the primary keys: the planner takes every array for a short one, and never scans a
# table for it. 5,000 rows: 0.15 s.
_REDACT = text("""
    WITH next AS MATERIALIZED (
        SELECT id FROM message
        WHERE mailing_id = :mailing_id AND (phase, id) > (:status, CAST(:after AS bigint)) AND phase <= :status
        ORDER BY phase, id LIMIT :count
    ), redacted AS (
        UPDATE message m SET phone = NULL
        WHERE m.id = ANY(ARRAY(SELECT id FROM next)) AND m.phone IS NOT NULL AND m.status = :status
    ), deleted AS (
        DELETE FROM attempt WHERE message_id = ANY(ARRAY(SELECT id FROM next))
    ), forgotten AS (
        DELETE FROM receipt WHERE message_id = ANY(ARRAY(SELECT id FROM next))
    )
    SELECT max(id) FROM next
""")


async def redact_slice(session: AsyncSession, part: MessageSlice) -> int | None:
    """Redact a slice. Return its last message; None behind the end. `part.status` is one of FINAL."""
    values = {"mailing_id": part.mailing_id, "status": part.status.value, "after": part.after, "count": part.count}
    last: int | None = await session.scalar(_REDACT, values)
    return last


# A message in a call keeps its phone until the call is over. One that may have been sent to this phone is not called
# again; one that was not takes its client's new phone at the claim. No index: one for this alone would cost every
# message that is sent. It scans the table, 0.3 s for 1,000,000 messages, and locks those that it finds by id.
_REDACT_PHONE = """
    UPDATE message m SET phone = NULL,
        status = CASE WHEN m.status = 'pending' AND m.maybe_accepted THEN 'unknown' ELSE m.status END,
        finished_at = CASE WHEN m.status = 'pending' AND m.maybe_accepted THEN now() ELSE m.finished_at END,
        wait_reason = CASE WHEN m.status = 'pending' AND m.maybe_accepted THEN NULL ELSE m.wait_reason END,
        reason_code = CASE WHEN m.status = 'pending' AND m.maybe_accepted THEN 'person_erased' ELSE m.reason_code END,
        reason_params = CASE WHEN m.status = 'pending' AND m.maybe_accepted THEN NULL ELSE m.reason_params END
    FROM (SELECT id FROM message WHERE phone = $1 AND status <> 'sending' ORDER BY id FOR UPDATE) AS found
    WHERE m.id = found.id
"""


async def redact_phone(session: AsyncSession, phone: str) -> int:
    """Redact the phone in every message that is not in a call. Return in how many."""
    return await execute_long(session, _REDACT_PHONE, phone)


_HAS_PHONE = "SELECT EXISTS (SELECT FROM message WHERE phone = $1)"


async def has_phone(session: AsyncSession, phone: str) -> bool:
    """Whether any message holds the phone, in whatever status. Scans the table."""
    [row] = await fetch_long(session, _HAS_PHONE, phone)
    return bool(row[0])


RETENTION_D = 40


# The oldest first. Index: mailing_throughput_minute.
_DELETE_OLD_MINUTES = text(f"""
    DELETE FROM mailing_throughput WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM mailing_throughput
            WHERE minute < now() - interval '{RETENTION_D} days' ORDER BY minute LIMIT :count))
""")  # noqa: S608 - a constant of this module


async def delete_old_minutes(session: AsyncSession, count: int) -> None:
    await session.execute(_DELETE_OLD_MINUTES, {"count": count})

"""The unsent messages of a mailing, stopped: in slices by a cancel, all at once by a deletion.

Messages being sent at that moment are stopped by their sender, or end as their call does.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.engine import execute_long
from mailing.messages.low_watermark import FROM_FRONT
from mailing.messages.repository import rows_moved
from mailing.restore.repository import is_restored

# pending → cancelled (or unknown). What a worker is just claiming is passed over: its sender finds the mailing
# cancelled. Index: message_due. A million in slices of 20,000: 28 s.
_CANCEL = text(f"""
    WITH unsent AS (
        SELECT id FROM message WHERE mailing_id = :mailing_id AND status = 'pending' AND {FROM_FRONT}
        ORDER BY due_at, id LIMIT :count FOR UPDATE SKIP LOCKED
    )
    UPDATE message m SET
        status = CASE WHEN m.maybe_accepted THEN 'unknown' ELSE 'cancelled' END,
        finished_at = now(), wait_reason = NULL, status_reason = 'the mailing was cancelled'
    FROM unsent WHERE m.id = unsent.id
""")  # noqa: S608 - composed from constants


async def cancel_of_mailing(session: AsyncSession, mailing_id: int, count: int) -> int:
    """Call only when the mailing is cancelled; fewer than `count` means that none is left but what comes back.

    In a restored database they all may have been sent: they are ended after `mailing resume-after-restore`.
    """
    if await is_restored(session):
        return 0
    return await rows_moved(session, _CANCEL, mailing_id=mailing_id, count=count)


# pending → cancelled (or unknown). Index: message_listed. A million: 38 s.
_CANCEL_OF_DELETED = """
    UPDATE message SET
        status = CASE WHEN maybe_accepted THEN 'unknown' ELSE 'cancelled' END,
        finished_at = now(), wait_reason = NULL, status_reason = 'the mailing was deleted'
    WHERE mailing_id = $1 AND status = 'pending'
"""


async def cancel_of_deleted(session: AsyncSession, mailing_id: int) -> int:
    """Every unsent message, however many there are; in a restored database as `cancel_of_mailing`."""
    if await is_restored(session):
        return 0
    return await execute_long(session, _CANCEL_OF_DELETED, mailing_id)


_PENDING = text("SELECT pending FROM mailing_counts WHERE mailing_id = :mailing_id FOR UPDATE")


async def pending_of_mailing(session: AsyncSession, mailing_id: int) -> int:
    """Nothing moves a message of this mailing until the session commits: lock the mailing first, and commit soon."""
    pending: int = (await session.execute(_PENDING, {"mailing_id": mailing_id})).scalar_one()
    return pending

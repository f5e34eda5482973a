"""The unsent messages of a mailing, stopped: in slices by a cancel, all at once by a deletion.

Messages being sent at that moment are stopped by their sender, or end as their call does.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.engine import execute_long
from mailing.database.rows import rows_affected
from mailing.messages.locks import lock_for_client_change
from mailing.messages.low_watermark import FROM_FRONT
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
    return await rows_affected(session, _CANCEL, mailing_id=mailing_id, count=count)


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


# pending → cancelled (or unknown), of one client in every mailing. One that is being sent has its opening voided:
# should its sender, which may not have seen the change, put it back, the sweep finds it. The same where the database
# was restored, and nobody is sure that it was not sent. Index: message_once.
_CANCEL_OF_CLIENT = text("""
    UPDATE message m SET
        status = CASE WHEN m.status = 'sending' OR :unsure THEN m.status
                      WHEN m.maybe_accepted THEN 'unknown' ELSE 'cancelled' END,
        closes_at = CASE WHEN m.status = 'sending' OR :unsure THEN '-infinity' ELSE m.closes_at END,
        finished_at = CASE WHEN m.status = 'pending' AND NOT :unsure THEN now() END,
        phone = coalesce(m.phone, c.phone), wait_reason = NULL, status_reason = :reason
    FROM client c
    WHERE m.client_id = :client_id AND c.id = m.client_id AND m.status IN ('pending', 'sending')
""")


async def cancel_of_client(session: AsyncSession, client_id: int, *, reason: str) -> int:
    """Call with the client's row locked, after it says that it opted out, or before it goes: a message that was never
    claimed takes the phone from it. No plan runs from here to the commit.

    One that is being sent is stopped by its sender, which asks before each call.
    """
    await lock_for_client_change(session)
    values = {"client_id": client_id, "reason": reason, "unsure": await is_restored(session)}
    return await rows_affected(session, _CANCEL_OF_CLIENT, **values)


_PENDING = text("SELECT pending FROM mailing_counts WHERE mailing_id = :mailing_id FOR UPDATE")


async def pending_of_mailing(session: AsyncSession, mailing_id: int) -> int:
    """Nothing moves a message of this mailing until the session commits: lock the mailing first, and commit soon."""
    pending: int = (await session.execute(_PENDING, {"mailing_id": mailing_id})).scalar_one()
    return pending

"""Cancel unsent messages: of a mailing in slices by a cancel, all at once by a deletion; of a client in every mailing.

Messages being sent at that moment are stopped by their sender, or end as their call does.
"""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.engine import execute_long
from mailing.database.rows import rows_affected
from mailing.messages.ending import end, ended_status
from mailing.messages.locks import lock_for_client_change
from mailing.messages.low_watermark import FROM_LOW_WATERMARK, PENDING
from mailing.messages.states import MessageStatus
from mailing.reasons.codes import ReasonCode
from mailing.restore.repository import is_restored

# pending → cancelled (or unknown). Messages that a worker is just claiming are skipped: their sender finds the mailing
# cancelled. Index: message_due. A million in slices of 20,000: 28 s.
_CANCEL = text(f"""
    WITH unsent AS (
        SELECT id FROM message WHERE mailing_id = :mailing_id AND {PENDING} AND {FROM_LOW_WATERMARK}
        ORDER BY due_at, id LIMIT :count FOR UPDATE SKIP LOCKED
    )
    UPDATE message m SET {end(MessageStatus.cancelled, ReasonCode.mailing_cancelled)}
    FROM unsent WHERE m.id = unsent.id
""")  # noqa: S608 - composed from constants


async def cancel_of_mailing(session: AsyncSession, mailing_id: int, count: int) -> int:
    """Call only when the mailing is cancelled. If it returns fewer than `count`, only messages that are being sent may
    still become pending.

    In a restored database they all may have been sent: they are ended after `mailing resume-after-restore`.
    """
    if await is_restored(session):
        return 0
    return await rows_affected(session, _CANCEL, mailing_id=mailing_id, count=count)


# pending → cancelled (or unknown), locked by id as imports lock them. Index: message_listed. A million: 45 s.
_CANCEL_OF_DELETED = f"""
    UPDATE message m SET {end(MessageStatus.cancelled, ReasonCode.mailing_deleted)}
    FROM (SELECT id FROM message WHERE mailing_id = $1 AND {PENDING} ORDER BY id FOR UPDATE) AS unsent
    WHERE m.id = unsent.id
"""  # noqa: S608 - composed from constants


async def cancel_of_deleted(session: AsyncSession, mailing_id: int) -> int:
    """Cancel every unsent message, however many there are. In a restored database as `cancel_of_mailing`."""
    if await is_restored(session):
        return 0
    return await execute_long(session, _CANCEL_OF_DELETED, mailing_id)


# pending → cancelled (or unknown), of clients in every mailing, locked by id. A message that is being sent gets a void
# window: if its sender, which may not have seen the change, puts it back, the settle job finds it. The same in a
# restored database, where it is not certain that a message was not sent. Index: message_once.
_CANCEL_OF = f"""
    UPDATE message m SET
        status = CASE WHEN m.status = 'sending' OR {{unsure}} THEN m.status ELSE {ended_status("'cancelled'")} END,
        closes_at = CASE WHEN m.status = 'sending' OR {{unsure}} THEN '-infinity' ELSE m.closes_at END,
        finished_at = CASE WHEN m.status = 'pending' AND NOT {{unsure}} THEN now() END,
        phone = coalesce(m.phone, c.phone), wait_reason = NULL, reason_code = {{reason}}, reason_params = NULL
    FROM (
        SELECT id FROM message WHERE client_id = ANY({{client_ids}}) AND status IN ('pending', 'sending')
        ORDER BY id FOR UPDATE
    ) AS unsent, client c
    WHERE m.id = unsent.id AND c.id = m.client_id
"""  # noqa: S608 - composed from constants
_CANCEL_OF_CLIENT = text(
    _CANCEL_OF.format(client_ids="ARRAY[CAST(:client_id AS bigint)]", unsure=":unsure", reason="CAST(:reason AS text)")
)
_CANCEL_OF_CLIENTS = _CANCEL_OF.format(
    client_ids="$1::bigint[]", unsure="$2::boolean", reason=f"'{ReasonCode.client_opted_out}'"
)


async def cancel_of_client(session: AsyncSession, client_id: int, *, reason: ReasonCode) -> int:
    """Call with the client's row locked, after its opt-out is written or before it is deleted.

    A message that was never claimed takes the phone from that row. No plan runs from here to the commit. A message that
    is being sent is stopped by its sender, which rechecks before each call.
    """
    await lock_for_client_change(session)
    values = {"client_id": client_id, "reason": reason.value, "unsure": await is_restored(session)}
    return await rows_affected(session, _CANCEL_OF_CLIENT, **values)


async def cancel_of_opted_out_clients(session: AsyncSession, client_ids: Sequence[int]) -> None:
    """Do as `cancel_of_client` for clients that an import opted out."""
    await lock_for_client_change(session)
    await execute_long(session, _CANCEL_OF_CLIENTS, client_ids, await is_restored(session))


_PENDING = text("SELECT pending FROM mailing_counts WHERE mailing_id = :mailing_id FOR UPDATE")


async def pending_of_mailing(session: AsyncSession, mailing_id: int) -> int:
    """Lock the counters: no message of the mailing changes until the commit. Lock the mailing first; commit soon."""
    return int((await session.execute(_PENDING, {"mailing_id": mailing_id})).scalar_one())

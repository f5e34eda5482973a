"""After a restore: messages that the backup shows as unsent may have been sent after it."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.messages.states import MessageStatus

UNSENT: Sequence[MessageStatus] = (MessageStatus.sending, MessageStatus.pending)

# pending | sending → pending under the same id, phone and text; → unknown with `hold`, or where no phone is left. The
# attempt that may have been made gets a row, and so does the one that was under way at the backup. Claim numbers go on
# after all that are recorded: a worker that outlived the restore may have recorded one since. Messages that this resume
# has marked already are skipped, except with `hold`, which leaves none of them unsent. Index: message_listed. 20,000
# rows: 0.5-0.9 s.
_MARK_AMBIGUOUS = text("""
    WITH unsent AS (
        SELECT m.id, m.status, m.claim_no, p.phone, :hold OR p.phone IS NULL AS ends,
               greatest(m.claim_no, (SELECT max(a.number) FROM attempt a WHERE a.message_id = m.id)) + 1 AS number
        FROM message m LEFT JOIN client c ON c.id = m.client_id
        CROSS JOIN LATERAL (SELECT CASE WHEN m.maybe_accepted OR m.status = 'sending' THEN m.phone
                                        ELSE coalesce(c.phone, m.phone) END AS phone) p
        WHERE m.mailing_id = :mailing_id AND m.phase = 'open' AND m.status = :status AND m.id > :after
          AND (:hold OR NOT EXISTS (
              SELECT FROM attempt a WHERE a.message_id = m.id AND a.number = m.claim_no
              AND a.reason_code = 'restored' AND a.started_at >= :began_at))
        ORDER BY m.phase, m.id LIMIT :count FOR UPDATE OF m
    ), marked AS (
        UPDATE message m SET
            status = CASE WHEN u.ends THEN 'unknown' ELSE 'pending' END, maybe_accepted = true, claim_no = u.number,
            counted_attempts = m.counted_attempts + CASE u.status WHEN 'sending' THEN 2 ELSE 1 END,
            phone = u.phone,
            text_revision = CASE WHEN m.maybe_accepted OR u.status = 'sending' THEN m.text_revision
                                 ELSE g.text_revision END,
            wait_reason = CASE WHEN NOT u.ends THEN m.wait_reason END, lease_until = NULL,
            finished_at = CASE WHEN u.ends THEN now() END, reason_code = 'restored', reason_params = NULL
        FROM unsent u JOIN mailing g ON g.id = :mailing_id
        WHERE m.id = u.id
        RETURNING m.id
    ), recorded AS (
        INSERT INTO attempt (message_id, mailing_id, number, started_at, outcome, reason_code)
        SELECT id, CAST(:mailing_id AS bigint), claim, now(), 'ambiguous', 'restored'
        FROM (SELECT id, number AS claim FROM unsent
              UNION ALL SELECT id, claim_no FROM unsent WHERE status = 'sending') AS may_have_been_sent
        ON CONFLICT (message_id, number) DO NOTHING
    )
    SELECT count(*) AS count, max(id) AS last FROM marked
""")


class MessageSlice(msgspec.Struct, frozen=True):
    """`count` messages of one mailing in one status, with ids above `after`. `after` None: behind the end."""

    mailing_id: int
    status: MessageStatus
    after: int | None = 0
    count: int = 20_000


async def mark_unsent_ambiguous(
    session: AsyncSession, part: MessageSlice, *, began_at: datetime, hold: bool
) -> tuple[int, int | None]:
    """Mark a slice of unsent messages as possibly accepted. Return how many, and the last id of the slice."""
    values = msgspec.structs.asdict(part) | {"began_at": began_at, "hold": hold}
    row = (await session.execute(_MARK_AMBIGUOUS, values)).mappings().one()
    return row["count"], row["last"]

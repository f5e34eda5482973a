"""The length of leases, and the recovery of messages whose lease expired because their worker was lost."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.rows import rows_affected
from mailing.messages.filters import IS_UNSELECTED_BY_MAILING
from mailing.settings import MAX_GATEWAY_TIMEOUT_S

MIN_LEASE_S = 60.0
RECORDING_S = 15.0


def lease_for(timeout_s: float) -> float:
    """Return the lease in seconds for a worker whose calls take up to `timeout_s`.

    Long enough for a call that has the connection before, the message's own call, and its recording.
    """
    return max(MIN_LEASE_S, 2 * timeout_s + RECORDING_S)


MAX_LEASE_S = lease_for(MAX_GATEWAY_TIMEOUT_S)


def claimed_since_plan(lease_s: str) -> str:
    """Build the condition that a message was claimed under the newest plan: an older plan's hours may have changed.

    The first plan changes none. A worker knows its own lease; for another worker's the longest possible is used, so a
    doubtful case counts as an older claim.
    """
    return f"(g.plan_revision = 1 OR m.lease_until - make_interval(secs => {lease_s}) >= g.plan_heartbeat_at)"


_CLAIMED_SINCE_PLAN = claimed_since_plan(str(MAX_LEASE_S))

# The worker was lost, and it is not known whether the call was made. If the mailing was edited since the claim, the
# edit left the message to this statement: its window is void, and a client that the filter no longer selects is not
# called again. By primary key.
_RECLAIM = text(f"""
    WITH lost AS (
        SELECT m.id, NOT {_CLAIMED_SINCE_PLAN} AS replanned,
            :hold OR NOT {_CLAIMED_SINCE_PLAN} AND coalesce({IS_UNSELECTED_BY_MAILING}, false) AS ends
        FROM message m JOIN mailing g ON g.id = m.mailing_id LEFT JOIN client c ON c.id = m.client_id
        WHERE m.id = ANY(CAST(:ids AS bigint[])) AND m.status = 'sending' AND m.lease_until < now()
        FOR UPDATE OF m SKIP LOCKED
    ), moved AS (
        UPDATE message m SET
            status = CASE WHEN l.ends THEN 'unknown' ELSE 'pending' END, maybe_accepted = true,
            counted_attempts = m.counted_attempts + 1,
            closes_at = CASE WHEN l.replanned THEN '-infinity' ELSE m.closes_at END,
            lease_until = NULL, finished_at = CASE WHEN l.ends THEN now() END,
            wait_reason = CASE WHEN NOT l.ends THEN 'retry' END,
            reason_code = 'worker_lost', reason_params = NULL,
            due_at = now() + make_interval(secs => greatest(
                CASE WHEN m.maybe_accepted THEN 0 ELSE :first_repeat_s END,
                random() * least(:max_s, :base_s * 2.0 ^ least(m.counted_attempts, 30))))
        FROM lost l WHERE m.id = l.id
        RETURNING m.id, m.mailing_id, m.claim_no
    )
    INSERT INTO attempt (message_id, mailing_id, number, started_at, outcome, reason_code)
    SELECT id, mailing_id, claim_no, now(), 'ambiguous', 'worker_lost' FROM moved
    ON CONFLICT (message_id, number) DO NOTHING
""")  # noqa: S608 - composed from constants


class RetryPolicy(msgspec.Struct, frozen=True):
    """`hold`: a message whose call may have been accepted becomes unknown, instead of being called again.

    The first repeat after such a call waits `first_repeat_s` or longer: a receipt may come meanwhile.
    """

    hold: bool
    base_s: float
    max_s: float
    first_repeat_s: float = 0.0


async def reclaim_expired(session: AsyncSession, policy: RetryPolicy, ids: Sequence[int]) -> int:
    """Take back those of the messages whose lease has expired. Return how many.

    A message past its mailing's end is expired by the settle job.
    """
    return await rows_affected(session, _RECLAIM, **msgspec.structs.asdict(policy), ids=list(ids))


# A lease is deleted when none of its messages is being sent under an expired lease; others are left for the next sweep.
# Index: message_lease_expiry, then the messages by primary key.
_EXPIRED = text("""
    WITH leased AS MATERIALIZED (
        SELECT l.id AS lease, m.id AS message
        FROM message_lease l CROSS JOIN unnest(l.message_ids) AS m (id) WHERE l.lease_until < now()
    ), expired AS MATERIALIZED (
        SELECT id, lease_until FROM message
        WHERE id = ANY(ARRAY(SELECT message FROM leased)) AND status = 'sending' AND lease_until < now()
    ), deleted AS (
        DELETE FROM message_lease WHERE id = ANY(ARRAY(
            SELECT lease FROM leased EXCEPT SELECT lease FROM leased JOIN expired ON expired.id = message))
    )
    SELECT id FROM expired ORDER BY lease_until
""")


async def find_expired(session: AsyncSession) -> Sequence[int]:
    """Return the messages whose lease has expired, the oldest lease first."""
    return (await session.execute(_EXPIRED)).scalars().all()

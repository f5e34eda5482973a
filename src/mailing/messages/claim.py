"""Claim due messages under a lease, and check right before each call that the claim still holds."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.rows import all_as, one_as, rows_affected
from mailing.gateway.repository import MAY_CALL
from mailing.gateway.row import ONLY_ROW
from mailing.messages.ending import end
from mailing.messages.leases import MIN_LEASE_S, claimed_since_plan
from mailing.messages.low_watermark import FROM_LOW_WATERMARK, PENDING
from mailing.messages.states import MessageStatus
from mailing.reasons.codes import ReasonCode
from mailing.restore.repository import RESTORED

MAX_UNREACHABLE = 500  # due messages searched at once for those without a client to send to
UNCLAIMABLE_PAUSE_S = 300


class ClaimedMessage(msgspec.Struct, frozen=True):
    """A claimed message, with what the call and the decision after it need. `claim_no` is the fencing token."""

    id: int
    claim_no: int
    phone: str
    text_revision: int
    timezone: str
    counted_attempts: int
    soft_refusals: int
    maybe_accepted: bool
    closes_at: datetime
    claimed_at: datetime
    plan_revision: int
    probe: bool = False


# Messages are sent beside the first plan, as soon as their slice is planned. After an edit they wait for the whole
# plan.
_MAY_SEND = """
    g.status = 'running' AND g.deleted_at IS NULL AND now() >= g.starts_at AND now() < g.ends_at
    AND (g.planned_revision = g.plan_revision OR g.plan_revision = 1)
"""

# The first due messages. A claim skips those that another worker is claiming.
_DUE = f"""
    SELECT id FROM message
    WHERE mailing_id = :mailing_id AND {PENDING} AND {FROM_LOW_WATERMARK} AND due_at <= now() AND closes_at > now()
    ORDER BY due_at, id LIMIT {{count}} FOR UPDATE
"""  # noqa: S608 - composed from constants

# Index: message_due from the low watermark on, where only rows whose window has just closed are filtered away. Then the
# primary keys, whatever the planner believes of the table's size: it takes every array for a short one. It changes no
# column of an index, so that no index is written; that is why `wait_reason` stays. 500 rows: 6-9 ms.
_CLAIM = text(f"""
    UPDATE message m SET
        status = 'sending', claim_no = m.claim_no + 1, lease_until = now() + make_interval(secs => :lease_s),
        phone = CASE WHEN m.maybe_accepted THEN m.phone ELSE c.phone END,
        text_revision = CASE WHEN m.maybe_accepted THEN m.text_revision ELSE g.text_revision END
    FROM mailing g, client c, gateway w
    WHERE m.id = ANY(ARRAY({_DUE.format(count=":count")} SKIP LOCKED))
        AND g.id = :mailing_id AND c.id = m.client_id AND NOT c.opted_out AND {_MAY_SEND}
        AND w.{ONLY_ROW} AND {MAY_CALL} AND (w.breaker_opened_at IS NULL OR :probe)
    RETURNING m.id, m.claim_no, m.phone, m.text_revision, c.timezone, m.counted_attempts, m.soft_refusals,
        m.maybe_accepted, least(m.closes_at, g.ends_at) AS closes_at, now() AS claimed_at,
        g.plan_revision, CAST(:probe AS bool) AS probe
""")  # noqa: S608 - composed from constants of this module


async def claim(
    session: AsyncSession, mailing_id: int, count: int, *, probe: bool = False, lease_s: float = MIN_LEASE_S
) -> list[ClaimedMessage]:
    """Claim up to `count` due messages, under a lease of `lease_s`; none while sending is stopped.

    `probe` claims while the breaker is open. A due message without a client to send to is cancelled: each later claim
    would find it again, and a claim of one message would never get past it.
    """
    values = {"mailing_id": mailing_id, "count": count, "probe": probe, "lease_s": lease_s}
    claimed = all_as(ClaimedMessage, await session.execute(_CLAIM, values))
    if len(claimed) < count and await rows_affected(session, _CANCEL_UNREACHABLE, mailing_id=mailing_id):
        rest = values | {"count": count - len(claimed)}
        claimed += all_as(ClaimedMessage, await session.execute(_CLAIM, rest))
    return claimed


# pending → cancelled (or unknown): due, and its client was deleted or has opted out. No statement leaves such a message
# behind (decision 24), and this one does not rely on that. Index: message_due from the low watermark on, then
# client_pkey.
_WHY_UNREACHABLE = f"""CASE WHEN EXISTS (SELECT FROM client c WHERE c.id = m.client_id)
    THEN '{ReasonCode.client_opted_out}' ELSE '{ReasonCode.client_deleted}' END"""
_CANCEL_UNREACHABLE = text(f"""
    UPDATE message m SET {end(MessageStatus.cancelled, _WHY_UNREACHABLE)}
    WHERE m.id = ANY(ARRAY({_DUE.format(count=MAX_UNREACHABLE)} SKIP LOCKED))
        AND NOT EXISTS (SELECT FROM client c WHERE c.id = m.client_id AND NOT c.opted_out)
        AND NOT {RESTORED}
""")  # noqa: S608 - composed from constants of this module


# sending → pending: never called, and its window is void. By primary key.
_RELEASE = text("""
    UPDATE message SET status = 'pending', closes_at = '-infinity', lease_until = NULL
    WHERE id = ANY(CAST(:ids AS bigint[])) AND status = 'sending'
""")


async def release_with_void_window(session: AsyncSession, ids: Sequence[int]) -> None:
    """Give back messages in the transaction that claimed them; the settle job finds their next window."""
    await session.execute(_RELEASE, {"ids": list(ids)})


# pending → pending, later: the first due message, which the claim could not take. If another worker is trying it just
# now, it is waited for: the next message would be postponed in its place. Index: message_due.
_POSTPONE_UNCLAIMABLE = text(f"""
    UPDATE message SET
        due_at = now() + interval '{UNCLAIMABLE_PAUSE_S} s', wait_reason = 'retry',
        reason_code = 'not_claimable', reason_params = jsonb_build_object('error', CAST(:error AS text))
    WHERE id = ANY(ARRAY({_DUE.format(count=1)}))
""")  # noqa: S608 - composed from constants of this module


async def postpone_unclaimable(session: AsyncSession, mailing_id: int, *, error: str) -> bool:
    """Postpone the next message to be claimed by UNCLAIMABLE_PAUSE_S, so that those after it can be claimed."""
    return await rows_affected(session, _POSTPONE_UNCLAIMABLE, mailing_id=mailing_id, error=error) > 0


# Runs between the claim and the calls: a message is called only as it would be claimed now. By primary key.
_STILL_ALLOWED = text(f"""
    SELECT m.id, clock_timestamp() AS read
    FROM message m JOIN mailing g ON g.id = m.mailing_id JOIN client c ON c.id = m.client_id
    JOIN gateway w ON w.{ONLY_ROW}
    WHERE m.id = ANY(CAST(:ids AS bigint[])) AND m.status = 'sending' AND m.closes_at > now() AND NOT c.opted_out
    AND (m.maybe_accepted OR m.phone = c.phone AND m.text_revision = g.text_revision) AND {_MAY_SEND} AND {MAY_CALL}
    AND {claimed_since_plan(":lease_s")} AND (w.breaker_opened_at IS NULL OR m.id = ANY(CAST(:probes AS bigint[])))
""")  # noqa: S608 - composed from constants of this module


async def still_allowed(
    session: AsyncSession, ids: Sequence[int], *, probes: Sequence[int] = (), lease_s: float = MIN_LEASE_S
) -> tuple[set[int], datetime | None]:
    """Return which of a worker's claims still hold, and database time if any does. The claims were held for `lease_s`.

    `probes` are allowed while the breaker is open.
    """
    rows = (await session.execute(_STILL_ALLOWED, {"ids": list(ids), "probes": list(probes), "lease_s": lease_s})).all()
    return {row.id for row in rows}, rows[-1].read if rows else None


class EmptyClaim(msgspec.Struct, frozen=True):
    """Why a claim found nothing: whether calls were allowed then, and when the next message will be due."""

    may_call: bool
    next_due: datetime | None


# Index: message_due. Messages that are due already are the claim's.
_EXPLAIN_EMPTY = text(f"""
    SELECT {MAY_CALL} AND (w.breaker_opened_at IS NULL OR :probe) AS may_call,
        (SELECT min(due_at) FROM message WHERE mailing_id = :mailing_id AND {PENDING} AND due_at > now()) AS next_due
    FROM gateway w WHERE w.{ONLY_ROW}
""")  # noqa: S608 - composed from constants


async def explain_empty(session: AsyncSession, mailing_id: int, *, probe: bool = False) -> EmptyClaim:
    """Call it in the transaction of the claim, so that both compare with the same time."""
    return one_as(EmptyClaim, await session.execute(_EXPLAIN_EMPTY, {"mailing_id": mailing_id, "probe": probe}))

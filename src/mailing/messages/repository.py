"""Every statement that moves messages: each a guarded set statement, counted and checked by triggers of the schema.

One such statement a transaction: the mailing's counters stay locked from its end to the commit.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import CursorResult, text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.gateway.outcome import Answer
from mailing.gateway.repository import MAY_CALL
from mailing.gateway.row import ONLY_ROW
from mailing.messages.low_watermark import FROM_FRONT
from mailing.messages.states import MessageStatus
from mailing.restore.repository import RESTORED, is_restored
from mailing.settings import LONGEST_TIMEOUT_S

LEAST_LEASE_S = 60.0
RECORDING_S = 15.0


def lease_for(timeout_s: float) -> float:
    """Seconds for which a worker whose calls take up to `timeout_s` holds what it claims: a whole call for whoever has
    the connection before, one for the message itself, and time to record it.
    """
    return max(LEAST_LEASE_S, 2 * timeout_s + RECORDING_S)


LONGEST_LEASE_S = lease_for(LONGEST_TIMEOUT_S)
UNREACHABLE = 500  # due messages looked through at once for those without a client to send to
SET_ASIDE_S = 300


class ClaimedMessage(msgspec.Struct, frozen=True):
    """What a call needs, and what decides about the message afterwards. `number` is the fence."""

    id: int
    number: int
    phone: str
    text_revision: int
    timezone: str
    attempts: int
    soft_refusals: int
    maybe_accepted: bool
    closes_at: datetime
    claimed_at: datetime
    probe: bool = False


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """Where a message goes after a call, or after a call that was not made.

    `by_plan`: the mailing's end decided it, not the gateway; `due_at` and `wait_reason` are for a plan with a later
    end.
    """

    status: MessageStatus
    attempts: int
    soft_refusals: int
    maybe_accepted: bool
    due_at: datetime
    closes_at: datetime
    wait_reason: str | None = None
    status_reason: str | None = None
    by_plan: bool = False


class CallResult(msgspec.Struct, frozen=True, kw_only=True):
    """`answer` is None where no call was made: then there is no attempt to remember."""

    message: ClaimedMessage
    step: Transition
    answer: Answer | None = None
    started_at: datetime | None = None
    duration_ms: int | None = None


# The audience waits for its first plan no longer than a slice; after an edit, for the whole new plan.
_MAY_SEND = """
    g.status = 'running' AND g.deleted_at IS NULL AND now() >= g.starts_at AND now() < g.ends_at
    AND (g.planned_revision = g.plan_revision OR g.plan_revision = 1)
"""

# Index: message_due from its front on, no row filtered away but those whose opening has just passed; then the primary
# keys, whatever the planner thinks of the table's size: it never reads an array as longer than a few. 500 rows: 6-9 ms.
_CLAIM = text(f"""
    UPDATE message m SET
        status = 'sending', claim_no = m.claim_no + 1, lease_until = now() + make_interval(secs => :lease_s),
        wait_reason = NULL,
        phone = CASE WHEN m.maybe_accepted THEN m.phone ELSE c.phone END,
        text_revision = CASE WHEN m.maybe_accepted THEN m.text_revision ELSE g.text_revision END
    FROM mailing g, client c, gateway w
    WHERE m.id = ANY(ARRAY(
            SELECT id FROM message
            WHERE mailing_id = :mailing_id AND status = 'pending' AND {FROM_FRONT}
              AND due_at <= now() AND closes_at > now()
            ORDER BY due_at, id LIMIT :count FOR UPDATE SKIP LOCKED))
        AND g.id = :mailing_id AND c.id = m.client_id AND NOT c.opted_out AND {_MAY_SEND}
        AND w.{ONLY_ROW} AND {MAY_CALL} AND (w.breaker_opened_at IS NULL OR :probe)
    RETURNING m.id, m.claim_no, m.phone, m.text_revision, c.timezone, m.counted_attempts, m.soft_refusals,
        m.maybe_accepted,
        least(m.closes_at, g.ends_at), now(), CAST(:probe AS bool)
""")  # noqa: S608 - composed from constants of this module


async def claim(
    session: AsyncSession, mailing_id: int, count: int, *, probe: bool = False, lease_s: float = LEAST_LEASE_S
) -> list[ClaimedMessage]:
    """Up to `count` due messages become `sending`, under a lease of `lease_s`; none while sending is stopped.

    `probe` claims while the breaker is open. What it finds due but has no client to send to is cancelled: left where
    it is, it would be found again by each claim, and keep a claim of one message from ever getting past it.
    """
    values = {"mailing_id": mailing_id, "count": count, "probe": probe, "lease_s": lease_s}
    claimed = [ClaimedMessage(*row) for row in await session.execute(_CLAIM, values)]
    if len(claimed) < count and await rows_moved(session, _CANCEL_UNREACHABLE, mailing_id=mailing_id):
        claimed += [
            ClaimedMessage(*row) for row in await session.execute(_CLAIM, values | {"count": count - len(claimed)})
        ]
    return claimed


# pending → cancelled (or unknown): due, and its client is gone or has opted out. No statement leaves such a message
# behind (decision 24), and this one does not rely on that. Index: message_due from its front on, then client_pkey.
_CANCEL_UNREACHABLE = text(f"""
    UPDATE message m SET
        status = CASE WHEN m.maybe_accepted THEN 'unknown'
            ELSE 'cancelled' END, finished_at = now(), wait_reason = NULL,
        status_reason = CASE WHEN EXISTS (SELECT FROM client c WHERE c.id = m.client_id)
                          THEN 'the client opted out' ELSE 'the client was deleted' END
    WHERE m.id = ANY(ARRAY(
            SELECT id FROM message
            WHERE mailing_id = :mailing_id AND status = 'pending' AND {FROM_FRONT}
              AND due_at <= now() AND closes_at > now()
            ORDER BY due_at, id LIMIT {UNREACHABLE} FOR UPDATE SKIP LOCKED))
        AND NOT EXISTS (SELECT FROM client c WHERE c.id = m.client_id AND NOT c.opted_out)
        AND NOT {RESTORED}
""")  # noqa: S608 - composed from constants of this module


# pending → pending, later: the first due message, which the claim could not take. Index: message_due.
_SET_ASIDE = text(f"""
    UPDATE message SET
        due_at = now() + interval '{SET_ASIDE_S} s', wait_reason = 'retry', status_reason = CAST(:reason AS text)
    WHERE id = ANY(ARRAY(
        SELECT id FROM message
        WHERE mailing_id = :mailing_id AND status = 'pending' AND {FROM_FRONT} AND due_at <= now() AND closes_at > now()
        ORDER BY due_at, id LIMIT 1 FOR UPDATE SKIP LOCKED))
""")  # noqa: S608 - composed from constants of this module


async def set_aside(session: AsyncSession, mailing_id: int, *, reason: str) -> bool:
    """The message that a claim of one would take comes again SET_ASIDE_S later, and those behind it now."""
    return await rows_moved(session, _SET_ASIDE, mailing_id=mailing_id, reason=reason) > 0


def claimed_since_plan(lease_s: str) -> str:
    """What was claimed before the newest plan goes back: its hours may be others by now. The first plan changes none.

    A worker knows its own lease. Of another's only the longest possible is known, and in doubt the plan is newer.
    """
    return f"(g.plan_revision = 1 OR m.lease_until - make_interval(secs => {lease_s}) >= g.plan_heartbeat_at)"


# Asked between the claim and the calls: a message goes out as it would be claimed now. By primary key.
_STILL_ALLOWED = text(f"""
    SELECT m.id, clock_timestamp()
    FROM message m JOIN mailing g ON g.id = m.mailing_id JOIN client c ON c.id = m.client_id, gateway w
    WHERE m.id = ANY(CAST(:ids AS bigint[])) AND m.status = 'sending' AND m.closes_at > now() AND NOT c.opted_out
    AND (m.maybe_accepted OR m.phone = c.phone AND m.text_revision = g.text_revision) AND {_MAY_SEND} AND {MAY_CALL}
    AND {claimed_since_plan(":lease_s")} AND (w.breaker_opened_at IS NULL OR m.id = ANY(CAST(:probes AS bigint[])))
""")  # noqa: S608 - composed from constants of this module


async def still_allowed(
    session: AsyncSession, ids: Sequence[int], *, probes: Sequence[int] = (), lease_s: float = LEAST_LEASE_S
) -> tuple[set[int], datetime | None]:
    """Which of the worker's own claims, held for `lease_s`, and the database's clock where there are any.

    `probes` are allowed while the breaker is open.
    """
    rows = (await session.execute(_STILL_ALLOWED, {"ids": list(ids), "probes": list(probes), "lease_s": lease_s})).all()
    return {id_ for id_, _ in rows}, rows[-1][1] if rows else None


CAME_LATE = "accepted, as came out when its lease was lost and the message claimed again"
UNSELECTED = "an edit of the mailing no longer selects this client"

LEFT_OUT = """
    NOT ((cardinality(g.tags) = 0 OR coalesce(c.tag = ANY(g.tags), false))
        AND (cardinality(g.operator_codes) = 0 OR c.operator_code = ANY(g.operator_codes)))
"""

# One statement a batch. Index: message_pkey, and client_pkey for what waits again: the LIMIT keeps the planner from
# joining all clients. Compared with a column of the results, not with the word, the state does not lead the planner to
# message_leased: by its statistics hardly a message is being sent, so it would look through all results for each one.
#
# Nothing is waited for: a message that somebody holds locked is left out, the others are stored.
#
# A result whose lease was lost does not move its message: the sweep has decided about it, or another claim has it. But
# what the gateway accepted was sent, whatever was assumed meanwhile: an acceptance that is `late` ends a message that
# waits, is called again or is unknown. A call that is not made by then is called off (`still_allowed`); the outcome of
# one that is under way finds its message sent and changes nothing. An operator's word (failed, sent) stands.
#
# Each attempt is remembered, and replaces what the sweep had assumed about it, but for one: where the message was
# claimed again since, the assumption is the reason for that repeat, so an acceptance that comes out later stays
# `ambiguous` and says so.
#
# What was decided under an older plan is void as far as the plan decided it: an opening, and an end (`by_plan`). Such a
# message waits without an opening until the settle job has found it one by the present plan. What was cancelled or
# whose client left meanwhile does not wait again.
_RECORD = text(f"""
    WITH given AS (
        SELECT *, 'sending' AS was FROM unnest(
            CAST(:ids AS bigint[]), CAST(:numbers AS int[]), CAST(:statuses AS text[]), CAST(:by_plan AS bool[]),
            CAST(:attempts AS int[]), CAST(:soft_refusals AS int[]), CAST(:maybe_accepted AS bool[]),
            CAST(:due AS timestamptz[]), CAST(:closes AS timestamptz[]), CAST(:wait_reasons AS text[]),
            CAST(:errors AS text[]), CAST(:outcomes AS text[]), CAST(:started AS timestamptz[]),
            CAST(:durations AS int[]), CAST(:http AS int[]), CAST(:codes AS bigint[]), CAST(:reasons AS text[])
        ) AS r (id, number, status, by_plan, counted_attempts, soft_refusals, maybe_accepted, due_at, closes_at,
                wait_reason, error, outcome, started_at, duration_ms, http_status, code, reason)
    ), held AS MATERIALIZED (
        SELECT id, client_id, status, claim_no, closes_at = '-infinity' AS voided
        FROM message WHERE id = ANY(CAST(:ids AS bigint[]))
        FOR NO KEY UPDATE SKIP LOCKED
    ), result AS MATERIALIZED (
        SELECT d.*, m.client_id, m.voided,
            m.status = d.was AND m.claim_no = d.number AS fits,
            d.status = 'sent' AND (m.status IN ('pending', 'unknown') AND m.claim_no >= d.number
                                   OR m.status = d.was AND m.claim_no > d.number) AS late,
            d.status = 'sent' AND (m.claim_no > d.number OR m.status IN ('failed', 'cancelled', 'expired'))
                AS repeated
        FROM held m JOIN given d ON d.id = m.id
    ), remembered AS (
        INSERT INTO attempt (message_id, mailing_id, number, started_at, duration_ms, outcome, http_status, code,
            reason)
        SELECT id, CAST(:mailing_id AS bigint), number, started_at, duration_ms,
            CASE WHEN repeated THEN 'ambiguous' ELSE outcome END, http_status, code,
            CASE WHEN repeated THEN '{CAME_LATE}' ELSE reason END
        FROM result WHERE outcome IS NOT NULL ORDER BY id
        ON CONFLICT (message_id, number) DO UPDATE SET
            started_at = excluded.started_at, duration_ms = excluded.duration_ms, outcome = excluded.outcome,
            http_status = excluded.http_status, code = excluded.code, reason = excluded.reason
    ), decided AS (
        SELECT r.*, g.plan_revision <> :revision AS replanned,
            g.plan_revision <> :revision AND {LEFT_OUT} AS left_out, CASE
            WHEN r.late OR r.status <> 'pending' AND (NOT r.by_plan OR g.plan_revision = :revision AND NOT r.voided)
                THEN r.status
            WHEN g.status IN ('running', 'paused') AND c.id IS NOT NULL AND NOT c.opted_out
                AND (g.plan_revision = :revision OR NOT {LEFT_OUT}) THEN 'pending'
            WHEN r.maybe_accepted THEN 'unknown'
            ELSE 'cancelled' END AS next
        FROM mailing g CROSS JOIN result r
        LEFT JOIN LATERAL (
            SELECT * FROM client WHERE id = r.client_id AND (r.status = 'pending' OR r.by_plan) LIMIT 1
        ) c ON true
        WHERE g.id = :mailing_id AND (r.fits OR r.late)
    ), moved AS (
        UPDATE message m SET
            status = d.next,
            counted_attempts = CASE WHEN d.late THEN greatest(m.counted_attempts, d.counted_attempts)
                                    ELSE d.counted_attempts END,
            soft_refusals = CASE WHEN d.late THEN m.soft_refusals ELSE d.soft_refusals END,
            maybe_accepted = CASE WHEN d.late THEN m.maybe_accepted ELSE d.maybe_accepted END,
            due_at = CASE WHEN d.next = 'pending' THEN d.due_at ELSE m.due_at END,
            closes_at = CASE WHEN d.late THEN m.closes_at
                             WHEN d.replanned OR d.voided THEN '-infinity' ELSE d.closes_at END,
            wait_reason = CASE WHEN d.next = 'pending' THEN d.wait_reason END, lease_until = NULL,
            finished_at = CASE WHEN d.next <> 'pending' THEN now() END,
            status_reason = CASE WHEN d.next = d.status THEN d.error WHEN d.next = 'pending' THEN nullif(d.reason, '')
                              WHEN d.left_out THEN :unselected
                              ELSE 'the mailing was cancelled or the client left while it was being sent' END
        FROM decided d WHERE m.id = d.id
        RETURNING m.id
    )
    SELECT (SELECT count(*) FROM moved), ARRAY(SELECT id FROM given EXCEPT SELECT id FROM held)
""")  # noqa: S608 - composed from constants of this module


# Before an end that the plan decided is stored: an edit that commits between that statement's snapshot and its commit
# would find the message being sent and leave it to the sender, who has not seen the edit. Whoever edits just then is
# not waited for.
_HOLD_PLAN = text("SELECT id FROM mailing WHERE id = :mailing_id FOR SHARE SKIP LOCKED")


async def _hold_plan(session: AsyncSession, mailing_id: int) -> bool:
    return (await session.execute(_HOLD_PLAN, {"mailing_id": mailing_id})).first() is not None


class Recorded(msgspec.Struct, frozen=True):
    """How many messages moved, and the ids of those that somebody held locked: their results are not stored.

    Fewer than given, both together, means that leases were lost.
    """

    moved: int
    locked: list[int]


async def record(session: AsyncSession, results: Sequence[CallResult], *, mailing_id: int, revision: int) -> Recorded:
    """Results of one mailing, decided under `revision` of its plan; under a newer one what the plan decided is void."""
    steps, answers = [result.step for result in results], [result.answer for result in results]
    if any(step.by_plan for step in steps) and not await _hold_plan(session, mailing_id):
        return Recorded(0, [result.message.id for result in results])
    columns: dict[str, list[Any]] = {
        "ids": [result.message.id for result in results],
        "numbers": [result.message.number for result in results],
        "statuses": [step.status.value for step in steps],
        "by_plan": [step.by_plan for step in steps],
        "attempts": [step.attempts for step in steps],
        "soft_refusals": [step.soft_refusals for step in steps],
        "maybe_accepted": [step.maybe_accepted for step in steps],
        "due": [step.due_at for step in steps],
        "closes": [step.closes_at for step in steps],
        "wait_reasons": [step.wait_reason for step in steps],
        "errors": [step.status_reason for step in steps],
        "outcomes": [answer.outcome.value if answer else None for answer in answers],
        "started": [result.started_at for result in results],
        "durations": [result.duration_ms for result in results],
        "http": [answer.http_status if answer else None for answer in answers],
        "codes": [answer.code if answer else None for answer in answers],
        "reasons": [answer.reason if answer else None for answer in answers],
    }
    values = {"mailing_id": mailing_id, "revision": revision, "unselected": UNSELECTED}
    return Recorded(*(await session.execute(_RECORD, values | columns)).one())


# sending → unknown. By primary key.
_PARK = text("""
    UPDATE message SET status = 'unknown', maybe_accepted = true, counted_attempts = counted_attempts + 1,
        lease_until = NULL, wait_reason = NULL, finished_at = now(), status_reason = 'it was called,
            and the outcome could not be stored'
    WHERE id = (SELECT id FROM message WHERE id = :id AND status = 'sending' AND claim_no = :number
                FOR NO KEY UPDATE SKIP LOCKED)
""")


async def park(session: AsyncSession, message_id: int, number: int) -> None:
    """For a result that no try could store, while its lease is held; of a message that somebody else holds, nothing."""
    await session.execute(_PARK, {"id": message_id, "number": number})


# pending → expired (or unknown): the end has come. Index: message_due.
_EXPIRE_OF_MAILING = text(f"""
    WITH late AS (
        SELECT id FROM message WHERE mailing_id = :mailing_id AND status = 'pending' AND {FROM_FRONT}
        ORDER BY due_at, id LIMIT :count FOR UPDATE SKIP LOCKED
    )
    UPDATE message m SET
        status = CASE WHEN m.maybe_accepted THEN 'unknown' ELSE 'expired' END, finished_at = now(), wait_reason = NULL,
        status_reason = concat_ws('; ', 'the mailing''s end was reached', m.status_reason)
    FROM late WHERE m.id = late.id
""")  # noqa: S608 - composed from constants


async def expire_of_mailing(session: AsyncSession, mailing_id: int, count: int) -> int:
    """Call only when the end has passed; the reason keeps what the last attempt had said."""
    return await rows_moved(session, _EXPIRE_OF_MAILING, mailing_id=mailing_id, count=count)


async def lock_for_plan(session: AsyncSession) -> bool:
    """From here to the commit no client moves, opts out or goes; what is read afterwards is true at the commit.

    False: somebody who changes clients holds the lock for long. Commit, and ask again.
    """
    locked: bool = (await session.execute(text("SELECT lock_for_plan()"))).scalar_one()
    return locked


async def lock_for_client_change(session: AsyncSession) -> None:
    """From here to the commit nobody computes when clients may be sent to; what was computed is there to be seen."""
    await session.execute(text("SELECT lock_for_client_change()"))


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
    return await rows_moved(session, _CANCEL_OF_CLIENT, **values)


# The opening [due_at, closes_at) of unsent messages is void; the sweep computes the next one. Index: message_once.
_VOID_OPENINGS = text("""
    UPDATE message SET closes_at = '-infinity' WHERE client_id = :client_id AND status IN ('pending', 'sending')
""")


async def invalidate_windows_of_client(session: AsyncSession, client_id: int) -> None:
    """The client moved to another time zone: nothing is sent to it before its local hours are known again.

    Call after the change. No plan runs from here to the commit.
    """
    await lock_for_client_change(session)
    await session.execute(_VOID_OPENINGS, {"client_id": client_id})


# Index: message_due.
_NEXT_DUE = text("""
    SELECT min(due_at) FROM message WHERE mailing_id = :mailing_id AND status = 'pending' AND due_at > now()
""")


async def next_due(session: AsyncSession, mailing_id: int) -> datetime | None:
    """When the first message that is not due yet will be; what is due already is for the claim."""
    found: datetime | None = await session.scalar(_NEXT_DUE, {"mailing_id": mailing_id})
    return found


async def rows_moved(session: AsyncSession, statement: Any, **values: Any) -> int:  # noqa: ANN401 - a statement and its values
    result = await session.execute(statement, values)
    return result.rowcount if isinstance(result, CursorResult) else 0

"""Record what became of claimed messages: a batch of results in one guarded statement, or a single message parked.

One such statement a transaction: the mailing's counters stay locked from its end to the commit.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.gateway.outcome import Answer
from mailing.messages.claim import ClaimedMessage
from mailing.messages.planning import LEFT_OUT, UNSELECTED
from mailing.messages.states import MessageStatus

CAME_LATE = "accepted, as came out when its lease was lost and the message claimed again"


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


class Called(msgspec.Struct, frozen=True):
    """A call that was made. `started_at` is database time."""

    answer: Answer
    started_at: datetime
    duration_ms: int


class NotCalled(msgspec.Struct, frozen=True):
    """No call was made: there is no attempt to remember."""


NOT_CALLED = NotCalled()


class CallResult(msgspec.Struct, frozen=True):
    message: ClaimedMessage
    transition: Transition
    call: Called | NotCalled


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
            status_reason = CASE WHEN d.next = d.status THEN d.error
                                 WHEN d.next = 'pending' THEN nullif(d.reason, '')
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
    steps = [result.transition for result in results]
    calls = [result.call if isinstance(result.call, Called) else None for result in results]
    if any(step.by_plan for step in steps) and not await _hold_plan(session, mailing_id):
        return Recorded(0, [result.message.id for result in results])
    columns: dict[str, list[Any]] = {
        "ids": [result.message.id for result in results],
        "numbers": [result.message.claim_no for result in results],
        "statuses": [step.status.value for step in steps],
        "by_plan": [step.by_plan for step in steps],
        "attempts": [step.attempts for step in steps],
        "soft_refusals": [step.soft_refusals for step in steps],
        "maybe_accepted": [step.maybe_accepted for step in steps],
        "due": [step.due_at for step in steps],
        "closes": [step.closes_at for step in steps],
        "wait_reasons": [step.wait_reason for step in steps],
        "errors": [step.status_reason for step in steps],
        "outcomes": [call.answer.outcome.value if call else None for call in calls],
        "started": [call.started_at if call else None for call in calls],
        "durations": [call.duration_ms if call else None for call in calls],
        "http": [call.answer.http_status if call else None for call in calls],
        "codes": [call.answer.code if call else None for call in calls],
        "reasons": [call.answer.reason if call else None for call in calls],
    }
    values = {"mailing_id": mailing_id, "revision": revision, "unselected": UNSELECTED}
    return Recorded(*(await session.execute(_RECORD, values | columns)).one())


# sending → unknown. By primary key.
_PARK = text("""
    UPDATE message SET status = 'unknown', maybe_accepted = true, counted_attempts = counted_attempts + 1,
        lease_until = NULL, wait_reason = NULL, finished_at = now(),
        status_reason = 'it was called, and the outcome could not be stored'
    WHERE id = (SELECT id FROM message WHERE id = :id AND status = 'sending' AND claim_no = :number
                FOR NO KEY UPDATE SKIP LOCKED)
""")


async def park(session: AsyncSession, message_id: int, claim_no: int) -> None:
    """For a result that no try could store, while its lease is held; of a message that somebody else holds, nothing."""
    await session.execute(_PARK, {"id": message_id, "number": claim_no})

"""Record the results of claimed messages: a batch in one guarded statement, or one message parked as unknown.

One such statement per transaction: the mailing's counters stay locked from its end to the commit.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.rows import one_as
from mailing.gateway.outcome import Answer
from mailing.messages.claim import ClaimedMessage
from mailing.messages.filters import IS_UNSELECTED_BY_MAILING
from mailing.messages.states import MessageStatus, WaitReason
from mailing.reasons.codes import Reason, code_column, params_column


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """A message's next state, after a call or after a call that was not made.

    `by_plan`: the mailing's end decided it, not the gateway. `due_at` and `wait_reason` then apply if a newer plan has
    a later end.
    """

    status: MessageStatus
    counted_attempts: int
    soft_refusals: int
    maybe_accepted: bool
    due_at: datetime
    closes_at: datetime
    wait_reason: WaitReason | None = None
    reason: Reason | None = None
    by_plan: bool = False


class Called(msgspec.Struct, frozen=True):
    """A call that was made. `started_at` is database time."""

    answer: Answer
    started_at: datetime
    duration_ms: int


class NotCalled(msgspec.Struct, frozen=True):
    """No call was made: there is no attempt to record."""


NOT_CALLED = NotCalled()


class CallResult(msgspec.Struct, frozen=True):
    message: ClaimedMessage
    transition: Transition
    call: Called | NotCalled


# One statement per batch. Index: message_pkey, and client_pkey for messages that wait again: the LIMIT keeps the
# planner from joining all clients. The status is compared with a column of the results, not with a constant: by its
# statistics hardly a message is being sent, and the planner would search all results for each message.
#
# No lock is waited for: a locked message is left out, the others are recorded.
#
# A result whose lease was lost changes its message only if it is an acceptance: `late` (the table in decision 28). Each
# attempt is recorded, and replaces what the sweep had assumed about it, unless the message was claimed again since:
# then the assumption is the reason for that repeat, and a late acceptance stays `ambiguous`, as `recorded_late`.
#
# What an older plan decided is void: a send window, and an end (`by_plan`). Such a message waits without a window until
# the settle job has found it one by the present plan. A message that was cancelled, or whose client left meanwhile,
# does not wait again.
_RECORD = text(f"""
    WITH given AS (
        SELECT *, 'sending' AS was FROM unnest(
            CAST(:ids AS bigint[]), CAST(:numbers AS int[]), CAST(:statuses AS text[]), CAST(:by_plan AS bool[]),
            CAST(:attempts AS int[]), CAST(:soft_refusals AS int[]), CAST(:maybe_accepted AS bool[]),
            CAST(:due AS timestamptz[]), CAST(:closes AS timestamptz[]), CAST(:wait_reasons AS text[]),
            CAST(:reason_codes AS text[]), CAST(:reason_params AS text[]), CAST(:outcomes AS text[]),
            CAST(:started AS timestamptz[]), CAST(:durations AS int[]), CAST(:http AS int[]), CAST(:codes AS bigint[]),
            CAST(:answer_codes AS text[]), CAST(:answer_params AS text[]), CAST(:provider_ids AS text[])
        ) AS r (id, number, status, by_plan, counted_attempts, soft_refusals, maybe_accepted, due_at, closes_at,
                wait_reason, reason_code, reason_params, outcome, started_at, duration_ms, http_status, code,
                answer_code, answer_params, provider_id)
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
            reason_code, reason_params, provider_id)
        SELECT id, CAST(:mailing_id AS bigint), number, started_at, duration_ms,
            CASE WHEN repeated THEN 'ambiguous' ELSE outcome END, http_status, code,
            CASE WHEN repeated THEN 'recorded_late' ELSE answer_code END,
            CASE WHEN NOT repeated THEN CAST(answer_params AS jsonb) END, provider_id
        FROM result WHERE outcome IS NOT NULL ORDER BY id
        ON CONFLICT (message_id, number) DO UPDATE SET
            started_at = excluded.started_at, duration_ms = excluded.duration_ms, outcome = excluded.outcome,
            http_status = excluded.http_status, code = excluded.code,
            reason_code = excluded.reason_code, reason_params = excluded.reason_params,
            provider_id = excluded.provider_id
    ), decided AS (
        SELECT r.*, g.plan_revision <> :revision AS replanned,
            g.plan_revision <> :revision AND {IS_UNSELECTED_BY_MAILING} AS left_out, CASE
            WHEN r.late OR r.status <> 'pending' AND (NOT r.by_plan OR g.plan_revision = :revision AND NOT r.voided)
                THEN r.status
            WHEN g.status IN ('running', 'paused') AND c.id IS NOT NULL AND NOT c.opted_out
                AND (g.plan_revision = :revision OR NOT {IS_UNSELECTED_BY_MAILING}) THEN 'pending'
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
            reason_code = CASE WHEN d.next = d.status THEN d.reason_code WHEN d.next = 'pending' THEN d.answer_code
                               WHEN d.left_out THEN 'unselected' ELSE 'stopped_while_sending' END,
            reason_params = CAST(CASE WHEN d.next = d.status THEN d.reason_params
                                      WHEN d.next = 'pending' THEN d.answer_params END AS jsonb)
        FROM decided d WHERE m.id = d.id
        RETURNING m.id
    )
    SELECT (SELECT count(*) FROM moved) AS moved, ARRAY(SELECT id FROM given EXCEPT SELECT id FROM held) AS locked
""")  # noqa: S608 - composed from constants of this module


# Needed before an end that the plan decided is recorded. An edit that commits between that statement's snapshot and its
# commit would find the message being sent, and leave it to the sender, which has not seen the edit. An edit that holds
# the row just then is not waited for.
_LOCK_PLAN = text("SELECT id FROM mailing WHERE id = :mailing_id FOR SHARE SKIP LOCKED")


def needs_transaction(results: Sequence[CallResult]) -> bool:
    """Whether `record` must lock the plan. If not, it is one statement, which may commit by itself."""
    return any(result.transition.by_plan for result in results)


class Recorded(msgspec.Struct, frozen=True):
    """How many messages changed, and the ids of those that were locked: their results are not recorded.

    If both together are fewer than the results, leases were lost.
    """

    moved: int
    locked: list[int]


async def record(session: AsyncSession, results: Sequence[CallResult], *, mailing_id: int, revision: int) -> Recorded:
    """Record results of one mailing, decided under `revision` of its plan. A newer plan voids what the plan decided."""
    transitions = [result.transition for result in results]
    calls = [result.call if isinstance(result.call, Called) else None for result in results]
    answers = [call.answer.full_reason if call else None for call in calls]
    if needs_transaction(results):
        plan = await session.execute(_LOCK_PLAN, {"mailing_id": mailing_id})
        if plan.first() is None:
            return Recorded(0, [result.message.id for result in results])
    columns: dict[str, list[Any]] = {
        "ids": [result.message.id for result in results],
        "numbers": [result.message.claim_no for result in results],
        "statuses": [transition.status.value for transition in transitions],
        "by_plan": [transition.by_plan for transition in transitions],
        "attempts": [transition.counted_attempts for transition in transitions],
        "soft_refusals": [transition.soft_refusals for transition in transitions],
        "maybe_accepted": [transition.maybe_accepted for transition in transitions],
        "due": [transition.due_at for transition in transitions],
        "closes": [transition.closes_at for transition in transitions],
        "wait_reasons": [transition.wait_reason for transition in transitions],
        "reason_codes": code_column(transition.reason for transition in transitions),
        "reason_params": params_column(transition.reason for transition in transitions),
        "outcomes": [call.answer.outcome.value if call else None for call in calls],
        "started": [call.started_at if call else None for call in calls],
        "durations": [call.duration_ms if call else None for call in calls],
        "http": [call.answer.http_status if call else None for call in calls],
        "codes": [call.answer.code if call else None for call in calls],
        "answer_codes": code_column(answers),
        "answer_params": params_column(answers),
        "provider_ids": [call.answer.provider_id if call else None for call in calls],
    }
    values = {"mailing_id": mailing_id, "revision": revision}
    return one_as(Recorded, await session.execute(_RECORD, values | columns))


# sending → unknown. By primary key.
_PARK = text("""
    UPDATE message SET status = 'unknown', maybe_accepted = true, counted_attempts = counted_attempts + 1,
        lease_until = NULL, wait_reason = NULL, finished_at = now(),
        reason_code = 'outcome_not_stored', reason_params = NULL
    WHERE id = (SELECT id FROM message WHERE id = :id AND status = 'sending' AND claim_no = :claim_no
                FOR NO KEY UPDATE SKIP LOCKED)
""")


async def park(session: AsyncSession, message_id: int, claim_no: int) -> None:
    """End a message whose result can't be recorded, while its lease is held. A locked message is left as it is."""
    await session.execute(_PARK, {"id": message_id, "claim_no": claim_no})

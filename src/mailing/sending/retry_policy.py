"""Decide a message's next step from a call's outcome. Pure: time, jitter and windows are arguments."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import assert_never

import msgspec
from msgspec.structs import replace

from mailing.gateway.outcome import Answer, Outcome
from mailing.messages.claim import ClaimedMessage
from mailing.messages.rescheduling import SendWindow
from mailing.messages.results import Transition
from mailing.messages.states import MessageStatus

MAX_SOFT_REFUSALS = 5
THROTTLED_S = 5.0
CONFIGURATION_S = 30.0


class RetryPolicy(msgspec.Struct, frozen=True):
    """`hold`: park a message whose call may have been accepted, instead of repeating it under the same id."""

    hold: bool
    base_s: float
    max_s: float


class RetryContext(msgspec.Struct, frozen=True):
    """When it is decided. `chance` is in [0, 1); `opens(not_before)` is the next opening of the client's zone."""

    now: datetime
    chance: float
    opens: Callable[[datetime], SendWindow]


def decide(answer: Answer, message: ClaimedMessage, policy: RetryPolicy, moment: RetryContext) -> Transition:
    step = replace(
        _as_it_was(message, moment.now),
        attempts=message.attempts + _counts(answer, message),
        soft_refusals=message.soft_refusals + (answer.outcome is Outcome.soft_refusal),
        maybe_accepted=message.maybe_accepted or answer.outcome is Outcome.ambiguous,
    )
    match answer.outcome:
        case Outcome.accepted:
            return replace(step, status=MessageStatus.sent)
        case Outcome.refused:
            return _ended(step, MessageStatus.failed, answer.reason)
        case Outcome.soft_refusal if step.soft_refusals >= MAX_SOFT_REFUSALS:
            return _ended(step, MessageStatus.failed, answer.reason)
        case Outcome.ambiguous if policy.hold:
            return _ended(step, MessageStatus.unknown, answer.reason)
        case Outcome.throttled:
            asked_s = THROTTLED_S if answer.retry_after_s is None else answer.retry_after_s
            wait_reason, delay_s = "rate", asked_s + THROTTLED_S * moment.chance
        case Outcome.configuration:
            wait_reason, delay_s = "breaker", CONFIGURATION_S * (1 + moment.chance)
        case Outcome.not_sent | Outcome.soft_refusal | Outcome.ambiguous:
            wait_reason, delay_s = "retry", backoff(step.attempts, policy, moment.chance)
        case _:
            assert_never(answer.outcome)
    step = replace(step, wait_reason=wait_reason, status_reason=answer.reason)
    return _at_opening(step, moment, not_before=moment.now + timedelta(seconds=delay_s))


def release(message: ClaimedMessage, moment: RetryContext) -> Transition:
    """Release a message whose window, mailing or lease had passed. It waits for the next window; no attempt counts."""
    return _at_opening(_as_it_was(message, moment.now), moment, not_before=moment.now)


def backoff(attempts: int, policy: RetryPolicy, chance: float) -> float:
    """Return a delay with full jitter: between 0 and min(max, base * 2^(attempts-1)) seconds."""
    return chance * min(policy.max_s, policy.base_s * 2.0 ** min(attempts - 1, 30))


def _counts(answer: Answer, message: ClaimedMessage) -> bool:
    """Whether the call counts as an attempt. A probe does not: an outage of hours must not use up attempts."""
    return answer.outcome.counts and not (message.probe and answer.outcome is Outcome.not_sent)


def _as_it_was(message: ClaimedMessage, now: datetime) -> Transition:
    return Transition(
        status=MessageStatus.pending,
        attempts=message.attempts,
        soft_refusals=message.soft_refusals,
        maybe_accepted=message.maybe_accepted,
        due_at=now,
        closes_at=message.closes_at,
    )


def _at_opening(step: Transition, moment: RetryContext, *, not_before: datetime) -> Transition:
    found = moment.opens(not_before)
    if found.opens_at is None or found.closes_at is None:
        reason = "; ".join(part for part in (found.reason, step.status_reason) if part)
        return replace(
            _ended(step, MessageStatus.expired, reason), by_plan=True, due_at=not_before, wait_reason=step.wait_reason
        )
    wait_reason = step.wait_reason if found.opens_at == not_before else "window"
    return replace(step, due_at=found.opens_at, closes_at=found.closes_at, wait_reason=wait_reason)


def _ended(step: Transition, status: MessageStatus, reason: str) -> Transition:
    """Return the final status: unknown instead of `failed` or `expired` if an attempt may have been accepted."""
    return replace(
        step, status=MessageStatus.unknown if step.maybe_accepted else status, wait_reason=None, status_reason=reason
    )

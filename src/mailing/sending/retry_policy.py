"""Decide what becomes of a message after its call. Pure: time, jitter and send windows are arguments."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import assert_never

import msgspec
from msgspec.structs import replace

from mailing.gateway.outcome import Answer, Outcome
from mailing.messages.claim import ClaimedMessage
from mailing.messages.leases import RetryPolicy
from mailing.messages.rescheduling import SendWindow
from mailing.messages.results import Transition
from mailing.messages.states import MessageStatus, WaitReason
from mailing.reasons.codes import Reason

MAX_SOFT_REFUSALS = 5
DEFAULT_THROTTLE_S = 5.0
CONFIGURATION_DELAY_S = 30.0


class RetryContext(msgspec.Struct, frozen=True):
    """`jitter` is in [0, 1). `next_window(not_before)` is the next send window in the client's time zone."""

    now: datetime
    jitter: float
    next_window: Callable[[datetime], SendWindow]


def accepted(message: ClaimedMessage) -> Transition:
    """End the message as sent. An ended message keeps its `due_at`."""
    unchanged = _unchanged(message, message.claimed_at)
    return replace(unchanged, status=MessageStatus.sent, counted_attempts=message.counted_attempts + 1)


def decide(answer: Answer, message: ClaimedMessage, policy: RetryPolicy, context: RetryContext) -> Transition:
    transition = replace(
        _unchanged(message, context.now),
        counted_attempts=message.counted_attempts + _counts_as_attempt(answer, message),
        soft_refusals=message.soft_refusals + (answer.outcome is Outcome.soft_refusal),
        maybe_accepted=message.maybe_accepted or answer.outcome is Outcome.ambiguous,
    )
    match answer.outcome:
        case Outcome.accepted:
            return accepted(message)
        case Outcome.refused:
            return _ended(transition, MessageStatus.failed, answer.full_reason)
        case Outcome.soft_refusal if transition.soft_refusals >= MAX_SOFT_REFUSALS:
            return _ended(transition, MessageStatus.failed, answer.full_reason)
        case Outcome.ambiguous if policy.hold:
            return _ended(transition, MessageStatus.unknown, answer.full_reason)
        case Outcome.throttled:
            asked_s = DEFAULT_THROTTLE_S if answer.retry_after_s is None else answer.retry_after_s
            wait_reason, delay_s = WaitReason.rate, asked_s + DEFAULT_THROTTLE_S * context.jitter
        case Outcome.configuration:
            wait_reason, delay_s = WaitReason.breaker, CONFIGURATION_DELAY_S * (1 + context.jitter)
        case Outcome.not_sent | Outcome.soft_refusal | Outcome.ambiguous:
            wait_reason, delay_s = WaitReason.retry, backoff(transition.counted_attempts, policy, context.jitter)
            if answer.outcome is Outcome.ambiguous and not message.maybe_accepted:
                delay_s = max(delay_s, policy.first_repeat_s)
        case _:
            assert_never(answer.outcome)
    transition = replace(transition, wait_reason=wait_reason, reason=answer.full_reason)
    return _in_next_window(transition, context, not_before=context.now + timedelta(seconds=delay_s))


def release(message: ClaimedMessage, context: RetryContext) -> Transition:
    """Put a message back that was not called: it waits for its next send window, and no attempt is counted."""
    return _in_next_window(_unchanged(message, context.now), context, not_before=context.now)


def backoff(attempts: int, policy: RetryPolicy, jitter: float) -> float:
    """Return seconds between 0 and min(max, base * 2^(attempts-1)): full jitter."""
    return jitter * min(policy.max_s, policy.base_s * 2.0 ** min(attempts - 1, 30))


def _counts_as_attempt(answer: Answer, message: ClaimedMessage) -> bool:
    """Whether the call uses up an attempt. A probe that is not sent does not: the gateway may be down for hours."""
    return answer.outcome.counts_as_attempt and not (message.probe and answer.outcome is Outcome.not_sent)


def _unchanged(message: ClaimedMessage, now: datetime) -> Transition:
    return Transition(
        status=MessageStatus.pending,
        counted_attempts=message.counted_attempts,
        soft_refusals=message.soft_refusals,
        maybe_accepted=message.maybe_accepted,
        due_at=now,
        closes_at=message.closes_at,
    )


def _in_next_window(transition: Transition, context: RetryContext, *, not_before: datetime) -> Transition:
    window = context.next_window(not_before)
    if window.opens_at is None or window.closes_at is None:
        reason = window.reason.after(transition.reason) if window.reason else transition.reason
        return replace(
            _ended(transition, MessageStatus.expired, reason),
            by_plan=True,
            due_at=not_before,
            wait_reason=transition.wait_reason,
        )
    wait_reason = transition.wait_reason if window.opens_at == not_before else WaitReason.window
    return replace(transition, due_at=window.opens_at, closes_at=window.closes_at, wait_reason=wait_reason)


def _ended(transition: Transition, status: MessageStatus, reason: Reason | None) -> Transition:
    """`failed` and `expired` require that no attempt can have been accepted; otherwise the message is `unknown`."""
    return replace(
        transition,
        status=MessageStatus.unknown if transition.maybe_accepted else status,
        wait_reason=None,
        reason=reason,
    )

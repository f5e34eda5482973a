"""From outcome to next step, as a table, and as properties over everything."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailing.gateway.outcome import Answer, Outcome
from mailing.messages.claim import ClaimedMessage
from mailing.messages.leases import RetryPolicy
from mailing.messages.states import TRANSITIONS, MessageStatus
from mailing.reasons.codes import ReasonCode, words_of
from mailing.sending.retry_policy import MAX_SOFT_REFUSALS, RetryContext, backoff, decide, release
from support.send_windows import END, NOW, always_open

RETRY, HOLD = RetryPolicy(hold=False, base_s=5, max_s=600), RetryPolicy(hold=True, base_s=5, max_s=600)


def claimed(
    *, attempts: int = 0, soft_refusals: int = 0, ambiguous: bool = False, probe: bool = False
) -> ClaimedMessage:
    return ClaimedMessage(7, 1, "79160000001", 1, "UTC", attempts, soft_refusals, ambiguous, END, NOW, 1, probe)


def retry_context(jitter: float = 0.5) -> RetryContext:
    return RetryContext(NOW, jitter, always_open)


LAST = claimed(soft_refusals=MAX_SOFT_REFUSALS - 1)
MAYBE_ARRIVED = claimed(ambiguous=True)


@pytest.mark.parametrize(
    ("outcome", "message", "policy", "status", "attempts", "waiting"),
    [
        (Outcome.accepted, claimed(), RETRY, MessageStatus.sent, 1, None),
        (Outcome.not_sent, claimed(), RETRY, MessageStatus.pending, 1, "retry"),
        (Outcome.not_sent, claimed(probe=True), RETRY, MessageStatus.pending, 0, "retry"),  # it may be down for hours
        (Outcome.ambiguous, claimed(probe=True), RETRY, MessageStatus.pending, 1, "retry"),
        (Outcome.throttled, claimed(), RETRY, MessageStatus.pending, 0, "rate"),
        (Outcome.refused, claimed(), RETRY, MessageStatus.failed, 1, None),
        (Outcome.refused, MAYBE_ARRIVED, RETRY, MessageStatus.unknown, 1, None),  # no proof that nothing did
        (Outcome.soft_refusal, claimed(), RETRY, MessageStatus.pending, 1, "retry"),
        (Outcome.soft_refusal, LAST, RETRY, MessageStatus.failed, 1, None),
        (Outcome.ambiguous, claimed(), RETRY, MessageStatus.pending, 1, "retry"),
        (Outcome.ambiguous, claimed(), HOLD, MessageStatus.unknown, 1, None),
        (Outcome.configuration, claimed(), RETRY, MessageStatus.pending, 0, "breaker"),
    ],
)
def test_each_outcome_has_its_transition(
    outcome: Outcome,
    message: ClaimedMessage,
    policy: RetryPolicy,
    status: MessageStatus,
    attempts: int,
    waiting: str | None,
) -> None:
    transition = decide(Answer(outcome, reason=ReasonCode.not_json), message, policy, retry_context())
    assert (transition.status, transition.counted_attempts, transition.wait_reason) == (status, attempts, waiting)


def test_a_wait_asked_for_by_the_gateway_is_kept() -> None:
    transition = decide(Answer(Outcome.throttled, retry_after_s=120), claimed(), RETRY, retry_context(jitter=0))
    assert transition.due_at == NOW + timedelta(seconds=120)


@pytest.mark.parametrize(
    ("outcome", "repeated", "wait_s"),
    [
        (Outcome.ambiguous, False, 60),  # a receipt may say that it arrived
        (Outcome.ambiguous, True, 0),
        (Outcome.not_sent, False, 0),
    ],
)
def test_the_first_repeat_after_a_call_without_an_answer_waits_for_a_receipt(
    outcome: Outcome, repeated: bool, wait_s: int
) -> None:
    policy = RetryPolicy(hold=False, base_s=5, max_s=600, first_repeat_s=60)
    transition = decide(Answer(outcome), claimed(ambiguous=repeated), policy, retry_context(jitter=0))
    assert transition.due_at == NOW + timedelta(seconds=wait_s)


def test_a_retry_that_would_come_after_the_end_expires_with_both_reasons() -> None:
    answer = Answer(Outcome.throttled, 429, reason=ReasonCode.http_status, retry_after_s=7200)
    transition = decide(answer, claimed(), RETRY, retry_context())
    assert transition.status is MessageStatus.expired
    assert words_of(transition.reason) == "the mailing's end was reached; HTTP 429"


def test_a_message_that_was_not_called_keeps_its_attempts_and_waits_for_the_next_window() -> None:
    transition = release(claimed(attempts=3), retry_context())
    assert (transition.status, transition.counted_attempts, transition.due_at, transition.closes_at) == (
        MessageStatus.pending,
        3,
        NOW,
        END,
    )


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
def test_the_backoff_is_full_jitter_under_its_cap(attempts: int, jitter: float) -> None:
    delay = backoff(attempts, RETRY, jitter)
    assert 0 <= delay <= min(600, 5 * 2.0 ** min(attempts - 1, 30))


@given(
    outcome=st.sampled_from(Outcome),
    policy=st.sampled_from([RETRY, HOLD]),
    jitter=st.floats(0, 1, exclude_max=True),
    attempts=st.integers(0, 50),
    soft_refusals=st.integers(0, MAX_SOFT_REFUSALS - 1),
    ambiguous=st.booleans(),
    retry_after_s=st.none() | st.floats(0, 900),
)
def test_every_transition_is_allowed_lies_in_the_window_and_never_forgets_an_ambiguity(
    *,
    outcome: Outcome,
    policy: RetryPolicy,
    jitter: float,
    attempts: int,
    soft_refusals: int,
    ambiguous: bool,
    retry_after_s: float | None,
) -> None:
    message = claimed(attempts=attempts, soft_refusals=soft_refusals, ambiguous=ambiguous)
    transition = decide(Answer(outcome, retry_after_s=retry_after_s), message, policy, retry_context(jitter))
    assert transition.status in TRANSITIONS[MessageStatus.sending]
    assert transition.maybe_accepted >= ambiguous
    if transition.status is MessageStatus.pending:
        assert NOW <= transition.due_at < transition.closes_at <= END
    if transition.status in {MessageStatus.failed, MessageStatus.expired, MessageStatus.cancelled}:
        assert not transition.maybe_accepted

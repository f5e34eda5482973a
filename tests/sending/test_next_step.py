"""From outcome to next step, as a table, and as properties over everything."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailing.gateway.outcome import Answer, Outcome
from mailing.messages.repository import Claimed
from mailing.messages.rescheduling import Opening
from mailing.messages.states import TRANSITIONS, Status
from mailing.sending.retry_policy import SOFT_REFUSALS, Moment, Policy, after_call, backoff, not_called

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
END = NOW + timedelta(hours=1)
RETRY, HOLD = Policy(hold=False, base_s=5, max_s=600), Policy(hold=True, base_s=5, max_s=600)


def always_open(not_before: datetime) -> Opening:
    if not_before >= END:
        return Opening("UTC", None, None, "the mailing's end was reached")
    return Opening("UTC", not_before, END, None)


def claimed(*, attempts: int = 0, soft_refusals: int = 0, ambiguous: bool = False) -> Claimed:
    return Claimed(7, 1, "79160000001", 1, "UTC", attempts, soft_refusals, ambiguous, END, NOW)


def moment(chance: float = 0.5) -> Moment:
    return Moment(NOW, chance, always_open)


@pytest.mark.parametrize(
    ("outcome", "policy", "status", "attempts", "waiting"),
    [
        (Outcome.accepted, RETRY, Status.sent, 1, None),
        (Outcome.not_sent, RETRY, Status.pending, 1, "retry"),
        (Outcome.throttled, RETRY, Status.pending, 0, "rate"),
        (Outcome.refused, RETRY, Status.failed, 1, None),
        (Outcome.soft_refusal, RETRY, Status.pending, 1, "retry"),
        (Outcome.ambiguous, RETRY, Status.pending, 1, "retry"),
        (Outcome.ambiguous, HOLD, Status.unknown, 1, None),
        (Outcome.configuration, RETRY, Status.pending, 0, "breaker"),
    ],
)
def test_each_outcome_has_its_step(
    outcome: Outcome, policy: Policy, status: Status, attempts: int, waiting: str | None
) -> None:
    step = after_call(Answer(outcome, reason="why"), claimed(), policy, moment())
    assert (step.status, step.attempts, step.waiting) == (status, attempts, waiting)


def test_the_last_soft_refusal_is_a_failure() -> None:
    step = after_call(Answer(Outcome.soft_refusal), claimed(soft_refusals=SOFT_REFUSALS - 1), RETRY, moment())
    assert step.status is Status.failed


def test_a_refusal_after_an_attempt_that_may_have_arrived_is_no_proof_that_nothing_did() -> None:
    step = after_call(Answer(Outcome.refused), claimed(ambiguous=True), RETRY, moment())
    assert step.status is Status.unknown


def test_a_wait_asked_for_by_the_gateway_is_kept() -> None:
    step = after_call(Answer(Outcome.throttled, retry_after_s=120), claimed(), RETRY, moment(chance=0))
    assert step.due_at == NOW + timedelta(seconds=120)


def test_a_retry_that_would_come_after_the_end_expires_with_both_reasons() -> None:
    answer = Answer(Outcome.throttled, retry_after_s=7200, reason="HTTP 429")
    step = after_call(answer, claimed(), RETRY, moment())
    assert (step.status, step.last_error) == (Status.expired, "the mailing's end was reached; HTTP 429")


def test_a_message_that_was_not_called_keeps_its_attempts_and_waits_for_the_next_opening() -> None:
    step = not_called(claimed(attempts=3), moment())
    assert (step.status, step.attempts, step.due_at, step.closes_at) == (Status.pending, 3, NOW, END)


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
def test_the_backoff_is_full_jitter_under_its_cap(attempts: int, chance: float) -> None:
    delay = backoff(attempts, RETRY, chance)
    assert 0 <= delay <= min(600, 5 * 2.0 ** min(attempts - 1, 30))


@given(
    outcome=st.sampled_from(Outcome),
    policy=st.sampled_from([RETRY, HOLD]),
    chance=st.floats(0, 1, exclude_max=True),
    attempts=st.integers(0, 50),
    soft_refusals=st.integers(0, SOFT_REFUSALS - 1),
    ambiguous=st.booleans(),
    retry_after_s=st.none() | st.floats(0, 900),
)
def test_every_step_is_allowed_lies_in_the_opening_and_never_forgets_an_ambiguity(
    *,
    outcome: Outcome,
    policy: Policy,
    chance: float,
    attempts: int,
    soft_refusals: int,
    ambiguous: bool,
    retry_after_s: float | None,
) -> None:
    message = claimed(attempts=attempts, soft_refusals=soft_refusals, ambiguous=ambiguous)
    step = after_call(Answer(outcome, retry_after_s=retry_after_s), message, policy, moment(chance))
    assert step.status in TRANSITIONS[Status.sending]
    assert step.ambiguous >= ambiguous
    if step.status is Status.pending:
        assert NOW <= step.due_at < step.closes_at <= END
    if step.status in {Status.failed, Status.expired, Status.cancelled}:
        assert not step.ambiguous

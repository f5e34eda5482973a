"""The invariants I1 to I13, checked offline after a fault run. Pure: what is known goes in, what is wrong comes out."""

from collections import Counter
from collections.abc import Iterator

from chaos.checker.call_times import permitted
from chaos.checker.case import Case
from chaos.checker.facts import DELIVERY, Call, Evidence, Violation
from chaos.checker.outcomes import (
    ended,
    expired_in_time,
    leases_lost_with_their_workers,
    never_arrived,
    repeats_have_a_reason,
    sent_was_accepted,
    words_stay,
)
from chaos.checker.planning import planned_once
from chaos.checker.receipts import receipts_are_true
from mailing.gateway.providers.receipt import ReceiptState


def check(evidence: Evidence) -> list[Violation]:
    """100,000 messages with 150,000 calls take some seconds."""
    case = Case(evidence)
    return [violation for rule in RULES for violation in rule(case)]


def intended(case: Case) -> Iterator[Violation]:
    """I6. A claim is committed before its call, raises `claim_no`, and ends as one attempt, written by the worker or
    by the sweep after it; so no id has more calls than claims, and each call is an attempt of its own.
    """
    for trail in case.trails:
        claims = trail.message.claim_no if trail.message else 0
        if len(trail.pairs) > claims:
            yield Violation("I6", trail.id, f"was called {len(trail.pairs)} times on {claims} claims")
        for attempt in trail.attempts:
            if attempt.number > claims:
                yield Violation("I6", trail.id, f"has attempt {attempt.number} of {claims} claims")
        for pair in trail.pairs:
            if pair.attempt is None:
                yield Violation("I6", trail.id, f"call {pair.call.n} is no attempt in the database")


def one_at_a_time(case: Case) -> Iterator[Violation]:
    """I8. A second call beside the first is right only where the first one's lease can have run out."""
    lag_s, lease_left_s = case.evidence.lag_s, case.evidence.lease_left_s
    for trail in case.trails:
        for first, second in zip(trail.pairs, trail.pairs[1:], strict=False):
            after_s = second.call.began_at - first.call.began_at
            if after_s < min(_lasted_s(first.call, lag_s), lease_left_s):
                yield Violation("I8", trail.id, f"call {second.call.n} began during call {first.call.n}")


def _lasted_s(call: Call, lag_s: float) -> float:
    """At least: an answer is noted before it leaves, a client's leaving some time after it.

    Nothing is known of the end of a call during which the gateway was killed.
    """
    if call.ended_at is None:
        return 0.0
    return call.ended_at - call.began_at - (lag_s if call.how == "client left" else 0.0)


def counted(case: Case) -> Iterator[Violation]:
    """I10, and I13 for receipts. Whatever counts is compared with the rows."""
    rows = _rows(case.evidence)
    for told in case.evidence.told:
        of = "all mailings" if told.mailing_id is None else f"mailing {told.mailing_id}"
        for name, count in told.counts.items():
            if count != (found := rows[told.mailing_id, name]):
                sentence = f"{told.source} says {count} {name} of {of}, and the rows {found}"
                yield Violation("I13" if name in DELIVERY else "I10", None, sentence)


def _rows(evidence: Evidence) -> Counter[tuple[int | None, str]]:
    """Count by mailing, or None for all, and by name. Test sends stand outside of all statistics."""
    tests = {mailing.id for mailing in evidence.mailings if mailing.is_test}
    rows: Counter[tuple[int | None, str]] = Counter()
    for message in evidence.messages:
        if message.mailing_id not in tests:
            rows.update((of, name) for of in (message.mailing_id, None) for name in (message.status, "planned"))
    rows.update((receipt.mailing_id, ReceiptState(receipt.state).name) for receipt in evidence.receipts)
    for of in (mailing.id for mailing in evidence.mailings):
        rows[of, "awaited"] = max(0, rows[of, "sent"] - rows[of, "delivered"] - rows[of, "undelivered"])
    return rows


RULES = (
    planned_once,
    ended,
    sent_was_accepted,
    never_arrived,
    repeats_have_a_reason,
    intended,
    permitted,
    one_at_a_time,
    words_stay,
    counted,
    expired_in_time,
    leases_lost_with_their_workers,
    receipts_are_true,
)

"""I2 to I5 and I9: is each status true, was each repeat right, and did the words stay."""

from collections.abc import Iterator

from chaos.case import Case
from chaos.facts import FINAL, Violation
from chaos.trails import Pair, Trail


def ended(case: Case) -> Iterator[Violation]:
    for trail in case.trails:
        if trail.message and trail.message.status not in FINAL:
            yield Violation("I2", trail.id, f"is still {trail.message.status} at the end")


def sent_was_accepted(case: Case) -> Iterator[Violation]:
    for trail in case.trails:
        if not trail.message or trail.message.status != "sent" or trail.id in case.evidence.resolutions:
            continue
        accepted = [pair.call.accepted_at for pair in trail.accepted if pair.call.accepted_at is not None]
        if not accepted:
            yield Violation("I3", trail.id, "is sent, and the gateway never accepted it")
        elif trail.message.finished_at is None or trail.message.finished_at < min(accepted):
            yield Violation("I3", trail.id, "was called sent before the gateway accepted it")


def never_arrived(case: Case) -> Iterator[Violation]:
    for trail in case.trails:
        if not trail.message or not trail.accepted or trail.id in case.evidence.resolutions:
            continue
        if trail.message.status in ("failed", "expired", "cancelled"):
            yield Violation("I4", trail.id, f"is {trail.message.status}, and the gateway accepted it")


def repeats_have_a_reason(case: Case) -> Iterator[Violation]:
    for trail in case.trails:
        for first, second in zip(trail.accepted, trail.accepted[1:], strict=False):
            if not in_doubt(trail, first, second) and not lease_lost(case, trail, first, second):
                yield Violation(
                    "I5", trail.id, f"was accepted by call {first.call.n} and by call {second.call.n} again"
                )


def in_doubt(trail: Trail, first: Pair, second: Pair) -> bool:
    """An ambiguous attempt lies between the two acceptances."""
    between = range(first.number, max(second.number, first.number + 1))
    return any(attempt.outcome == "ambiguous" and attempt.number in between for attempt in trail.attempts)


def lease_lost(case: Case, trail: Trail, first: Pair, second: Pair) -> bool:
    """The sweep had called the first one ambiguous, and a worker that thawed put its true outcome in the place of that:
    what is left of the doubt is the message's own memory, and so much time between the calls that the lease ran out.
    """
    if trail.message is None or not trail.message.ambiguous:
        return False
    return second.call.began_at - first.call.began_at >= case.evidence.lease_left_s


def words_stay(case: Case) -> Iterator[Violation]:
    texts = {mailing.id: mailing.texts for mailing in case.evidence.mailings}
    phones = {
        client_id: {int(version.value.phone) for version in versions} for client_id, versions in case.traits.items()
    }
    for trail in case.trails:
        message = trail.message
        for sentence in _changes(trail):
            yield Violation("I9", trail.id, sentence)
        for call in (pair.call for pair in trail.pairs if message):
            if message and call.text not in texts.get(message.mailing_id, {call.text}):
                yield Violation("I9", trail.id, f"call {call.n} has a text its mailing never had")
            if message and call.phone not in phones.get(message.client_id, {call.phone}):
                yield Violation("I9", trail.id, f"call {call.n} went to a phone its client never had")


def _changes(trail: Trail) -> Iterator[str]:
    arrived: Pair | None = None
    for pair in trail.pairs:
        if arrived and (arrived.call.text, arrived.call.phone) != (pair.call.text, pair.call.phone):
            yield f"call {pair.call.n} has other words than call {arrived.call.n}, which may have arrived"
        arrived = pair if pair.may_have_arrived else arrived

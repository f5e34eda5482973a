"""I2 to I5, I9, I11 and I12: is each status true, was each repeat right, did the words stay, whose lease was lost."""

from collections.abc import Iterator
from datetime import UTC, datetime

from chaos.checker.case import Case
from chaos.checker.facts import FINAL, Attempt, Call, Mailing, Message, Terms, Violation
from chaos.checker.planning import must_have_one, planning_begins
from chaos.checker.traces import Pair, Trail
from mailing.mailings.window import next_window
from mailing.timezones import known_zone

LEASE_S = 60.0
SWEPT_AFTER_S = 30.0  # a lease that ran out, at most
RECORDED_WITHIN_S = 2.0  # the result of a call, at most; a worker may be frozen until then
DECIDED_WITHIN_S = 6.0  # since the transaction began: a worker stands still for 5 s, and waits for a move for 1 s


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
            if not in_doubt(trail, first, second):
                accepted = f"was accepted by call {first.call.n} and by call {second.call.n} again"
                yield Violation("I5", trail.id, accepted)


def in_doubt(trail: Trail, first: Pair, second: Pair) -> bool:
    """Return whether an ambiguous attempt lies between the two acceptances."""
    between = range(first.number, max(second.number, first.number + 1))
    return any(attempt.outcome == "ambiguous" and attempt.number in between for attempt in trail.attempts)


def leases_lost_with_their_workers(case: Case) -> Iterator[Violation]:
    """I12. Whoever lives gives back, or writes down, whatever it holds, in time."""
    for trail in case.trails:
        calls = {pair.number: pair.call for pair in trail.pairs}
        for attempt in trail.attempts:
            call = calls.get(attempt.number)
            if trail.id in case.evidence.locked or not lease_was_lost(attempt, call):
                continue
            since = call.began_at if call else attempt.started_at - LEASE_S - SWEPT_AFTER_S
            until = attempt.started_at + (0.0 if attempt.duration_s is None else attempt.duration_s + RECORDED_WITHIN_S)
            if not _was_absent(case, since, until):
                yield Violation("I12", trail.id, f"lost the lease of attempt {attempt.number}, and no worker was lost")


def lease_was_lost(attempt: Attempt, call: Call | None) -> bool:
    """Return whether the sweep wrote the attempt, or its worker wrote it after it had been repeated."""
    if attempt.outcome != "ambiguous":
        return False
    answered = call is not None and call.accepted_at is not None and call.how == "answered 200"
    return attempt.duration_s is None or (attempt.http_status == 200 and answered)


def _was_absent(case: Case, since: float, until: float) -> bool:
    return any(each.since <= until and each.until >= since for each in case.evidence.absences)


def expired_in_time(case: Case) -> Iterator[Violation]:
    """I11. Whatever the mailing's end and hours were before: by those in force there was no time left."""
    mailings = {mailing.id: mailing for mailing in case.evidence.mailings}
    for trail in case.trails:
        mailing = trail.message and mailings.get(trail.message.mailing_id)
        if trail.message and mailing and trail.message.status == "expired":
            yield from _expired_too_soon(case, trail.message, mailing)


def _expired_too_soon(case: Case, message: Message, mailing: Mailing) -> Iterator[Violation]:
    """Judged when it expired or, where an edit came later, while that was planned: a plan takes back what had ended.
    A client that moves afterwards takes back nothing. But `finished_at` is when the transaction began, and a plan or a
    settle job waits in it for moves under way: it may have met one that was asked for later.
    """
    versions = case.traits.get(message.client_id)
    if mailing.planned_at is None or message.finished_at is None or versions is None:
        return
    if mailing.planned_at > message.finished_at and not _is_planned_again(case, message, mailing):
        return
    since = max(message.finished_at, mailing.planned_at)
    begun = max(message.finished_at, planning_begins(case, mailing)) if since > message.finished_at else since
    zones = {each.value.timezone for each in versions if each.since <= since + DECIDED_WITHIN_S and each.until >= begun}
    if zones and all(_opens_again(mailing.terms, zone, since + case.evidence.retry_max_s) for zone in zones):
        left_s = mailing.terms.ends_at - since
        yield Violation(
            "I11", message.id, f"is expired, {left_s:.0f} s before the end, in {' or '.join(sorted(zones))}"
        )


def _is_planned_again(case: Case, message: Message, mailing: Mailing) -> bool:
    """Return False for a client that opted out, is gone or is no longer selected: a plan skips it."""
    clients = (client for client in case.evidence.clients if client.id == message.client_id)
    return any(must_have_one(case, mailing, client) for client in clients)


def _opens_again(terms: Terms, zone: str, since: float) -> bool:
    if since >= terms.ends_at or (terms.window and not known_zone(zone)):
        return False
    not_before, before = (datetime.fromtimestamp(moment, UTC) for moment in (since, terms.ends_at))
    return next_window(zone, terms.window, not_before=not_before, before=before).opens_at is not None


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

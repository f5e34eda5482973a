"""The offline checker: what the gateway's ledger, the database and the API must agree on after every fault run.

I1 every planned recipient has exactly one message · I2 at the end every message is final · I3 `sent` was accepted ·
I4 `failed`, `expired`, `cancelled` never were · I5 accepted twice only with an ambiguous attempt between · I6 every
call has an intent committed before it · I7 no call before the start, outside the window, at or after the end, or more
than 1 s after a pause, cancel, delete, opt-out or stop · I8 no two calls of one id at once, unless a lease ran out ·
I9 text and phone of one id never change once it may have arrived · I10 the API's counters = the rows = the report.

Pure. 100,000 messages with 150,000 calls take seconds.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import pairwise
from typing import Final, TypeVar

from msgspec import Struct

from chaos.allowed import Bans, untimely
from chaos.facts import Action, Attempt, Call, Client, Evidence, Kill, Kind, Mailing, Message, Violation
from chaos.pairing import paired

__all__ = ["Action", "Evidence", "Kill", "Kind", "Violation", "check"]

FINAL: Final = frozenset({"sent", "failed", "cancelled", "expired", "unknown"})
NEVER_ARRIVED: Final = frozenset({"failed", "cancelled", "expired"})
HELD_S: Final = 5.0  # a call begins this long after its claim at most, while nothing is wrong

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class Story(Struct):
    """All that is known about one message. `made_by` goes beside `calls`: the attempt of each."""

    message: Message
    mailing: Mailing
    calls: list[Call]
    attempts: list[Attempt]
    made_by: list[Attempt | None]
    resolved: list[Action]


def check(evidence: Evidence) -> list[Violation]:
    stories = list(stories_of(evidence))
    return [*_i1(evidence), *_foreign_calls(evidence), *_of_stories(stories, evidence), *_i10(evidence)]


def stories_of(evidence: Evidence) -> Iterator[Story]:
    mailings = {mailing.id: mailing for mailing in evidence.mailings}
    calls = _grouped(sorted(evidence.calls, key=lambda call: call.began_at), lambda call: call.id)
    attempts = _grouped(sorted(evidence.attempts, key=lambda each: each.number), lambda each: each.message_id)
    resolved = _grouped((each for each in evidence.actions if each.kind is Kind.resolved), lambda each: each.message_id)
    for message in evidence.messages:
        own, tries = calls.get(message.id, []), attempts.get(message.id, [])
        said = resolved.get(message.id, [])
        yield Story(message, mailings[message.mailing_id], own, tries, paired(own, tries), said)


def _of_stories(stories: list[Story], evidence: Evidence) -> Iterator[Violation]:
    bans, clients = Bans(evidence), _grouped(evidence.clients, lambda client: client.id)
    for story in stories:
        versions = clients.get(story.message.client_id, [])
        yield from _i2_to_i4(story)
        if story.calls:
            yield from _i5(story, evidence)
            yield from _i6(story, evidence)
            yield from _i7(story, versions, bans, evidence)
            yield from _i8(story, evidence)
            yield from _i9(story, versions)


def _i1(evidence: Evidence) -> Iterator[Violation]:
    of_mailing = _grouped(evidence.messages, lambda message: message.mailing_id)
    clients = _grouped(evidence.clients, lambda client: client.id)
    changed = {action.client_id for action in evidence.actions if action.client_id is not None}
    for mailing in evidence.mailings:
        messages = of_mailing.get(mailing.id, [])
        got = Counter(message.client_id for message in messages)
        for client_id, count in got.items():
            if count > 1:
                yield Violation("I1", None, f"client {client_id} has {count} messages of mailing {mailing.id}")
        for message in messages:
            if not _may_be_selected(mailing, clients.get(message.client_id, [])):
                yield Violation("I1", message.id, f"mailing {mailing.id} never selected client {message.client_id}")
        if mailing.is_test or mailing.terms[-1].starts_at > evidence.taken_at or _closed_unplanned(mailing):
            continue
        for selected, versions in clients.items():
            if selected not in got and selected not in changed and _must_be_selected(mailing, versions):
                yield Violation("I1", None, f"client {selected} has no message of mailing {mailing.id}")


def _may_be_selected(mailing: Mailing, versions: list[Client]) -> bool:
    return any(terms.select(client) for terms in mailing.terms for client in versions)


def _must_be_selected(mailing: Mailing, versions: list[Client]) -> bool:
    newest = versions[-1]
    return newest.id <= mailing.audience_upto and mailing.terms[-1].select(newest)


def _closed_unplanned(mailing: Mailing) -> bool:
    return mailing.status == "cancelled" and not mailing.planned


def _foreign_calls(evidence: Evidence) -> Iterator[Violation]:
    known = {message.id for message in evidence.messages}
    for message_id in {call.id for call in evidence.calls} - known:
        yield Violation("I6", message_id, "a call for a message that isn't there")


def _i2_to_i4(story: Story) -> Iterator[Violation]:
    message, accepted = story.message, any(call.accepted_at is not None for call in story.calls)
    if message.status not in FINAL:
        yield Violation("I2", message.id, f"still {message.status} at the end")
    if message.status == "sent" and not accepted and not _said(story, "sent"):
        yield Violation("I3", message.id, "sent, and the gateway never accepted it")
    if message.status in NEVER_ARRIVED and accepted and not _said(story, "failed"):
        yield Violation("I4", message.id, f"{message.status}, and the gateway had accepted it")


def _i5(story: Story, evidence: Evidence) -> Iterator[Violation]:
    accepted = [place for place, call in enumerate(story.calls) if call.accepted_at is not None]
    for first, second in pairwise(accepted):
        if not _doubtful_between(story, first, second) and not _outlived(story, first, second, evidence):
            yield Violation("I5", story.message.id, "accepted again, and no ambiguous attempt lies between")


def _i6(story: Story, evidence: Evidence) -> Iterator[Violation]:
    """An attempt's start runs ahead of the clock by as long as the claim took, which is less than its lease."""
    message = story.message
    if len(story.calls) > message.attempt_no:
        yield Violation("I6", message.id, f"{len(story.calls)} calls after {message.attempt_no} claims")
    for call, attempt in zip(story.calls, story.made_by, strict=True):
        if attempt is None:
            yield Violation("I6", message.id, "a call without an attempt of its own")
        elif not attempt.swept and call.began_at < attempt.started_at - evidence.lease_s:
            early_s = attempt.started_at - call.began_at
            yield Violation("I6", message.id, f"a call {early_s:.3f} s before attempt {attempt.number} began")


def _i7(story: Story, versions: list[Client], bans: Bans, evidence: Evidence) -> Iterator[Violation]:
    for call in story.calls:
        if reason := untimely(call, story.mailing, versions, noticed_s=evidence.noticed_s):
            yield Violation("I7", story.message.id, reason)
        for reason in bans.broken_by(call, story.message):
            yield Violation("I7", story.message.id, reason)


def _i8(story: Story, evidence: Evidence) -> Iterator[Violation]:
    for place, (call, following) in enumerate(pairwise(story.calls)):
        if call.ended_at is None or following.began_at >= call.ended_at - evidence.noticed_s:
            continue
        if not _lease_ran_out(story, place, place + 1, evidence):
            over_s = call.ended_at - following.began_at
            yield Violation("I8", story.message.id, f"two calls at once for {over_s:.3f} s")


def _i9(story: Story, versions: list[Client]) -> Iterator[Violation]:
    message, settled_at = story.message, max((each.at_answered for each in _verdicts(story, "failed")), default=0.0)
    kept: Call | None = None
    for call, attempt in zip(story.calls, story.made_by, strict=True):
        if call.text not in story.mailing.texts:
            yield Violation("I9", message.id, "a text that the mailing never had")
        if versions and all(call.phone != client.phone for client in versions):
            yield Violation("I9", message.id, "a phone that the client never had")
        if kept and (kept.text, kept.phone) != (call.text, call.phone):
            yield Violation("I9", message.id, "another text or phone after it may have arrived")
        if call.began_at > settled_at and _may_have_arrived(call, attempt):
            kept = kept or call


def _i10(evidence: Evidence) -> Iterator[Violation]:
    tests = {mailing.id for mailing in evidence.mailings if mailing.is_test}
    in_all = [message for message in evidence.messages if message.mailing_id not in tests]
    of_mailing = _grouped(evidence.messages, lambda message: message.mailing_id)
    for said in evidence.counters:
        messages = in_all if said.mailing_id is None else of_mailing.get(said.mailing_id, [])
        rows = Counter(message.status for message in messages if _ended_within(message, said.within))
        rows["planned"] = rows.total()
        for name, count in said.counts.items():
            if count != rows[name]:
                whose = "all mailings" if said.mailing_id is None else f"mailing {said.mailing_id}"
                yield Violation("I10", None, f"{said.source} says {count} {name} of {whose}, the rows {rows[name]}")


def _ended_within(message: Message, within: tuple[float, float] | None) -> bool:
    if within is None:
        return True
    return message.finished_at is not None and within[0] <= message.finished_at < within[1]


def _doubtful_between(story: Story, first: int, second: int) -> bool:
    return any(attempt.outcome == "ambiguous" for attempt in _attempts_between(story, first, second))


def _lease_ran_out(story: Story, first: int, second: int, evidence: Evidence) -> bool:
    swept = any(attempt.swept for attempt in _attempts_between(story, first, second))
    return swept or _outlived(story, first, second, evidence)


def _outlived(story: Story, first: int, second: int, evidence: Evidence) -> bool:
    """The lease had run out, but its worker came back and put its own account in the place of the sweep's."""
    gap_s = story.calls[second].began_at - story.calls[first].began_at
    return story.message.ambiguous and gap_s >= evidence.lease_s - HELD_S


def _attempts_between(story: Story, first: int, second: int) -> list[Attempt]:
    """The first call's own one included."""
    begin, end = story.made_by[first], story.made_by[second]
    return [
        attempt
        for attempt in story.attempts
        if (begin is None or attempt.number >= begin.number) and (end is None or attempt.number < end.number)
    ]


def _may_have_arrived(call: Call, attempt: Attempt | None) -> bool:
    return call.accepted_at is not None or (attempt is not None and attempt.outcome == "ambiguous")


def _said(story: Story, verdict: str) -> bool:
    return bool(_verdicts(story, verdict))


def _verdicts(story: Story, verdict: str) -> list[Action]:
    return [action for action in story.resolved if action.details.get("as") == verdict]


def _grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    groups: dict[K, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups

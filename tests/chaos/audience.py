"""I1: every planned recipient has exactly one message, and nobody else has one."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from chaos.case import Case
from chaos.facts import Client, Mailing, Violation
from chaos.versions import GRACE_S


def planned_once(case: Case) -> Iterator[Violation]:
    messages: dict[int, Counter[int]] = defaultdict(Counter)
    for message in case.evidence.messages:
        messages[message.mailing_id][message.client_id] += 1
    for mailing in case.evidence.mailings:
        if not mailing.is_test:
            yield from _audience(case, mailing, messages[mailing.id])
        if _is_behind(mailing, case.evidence.taken_at):
            yield Violation("I1", None, f"mailing {mailing.id} was not planned to its end")


def _is_behind(mailing: Mailing, now: float) -> bool:
    is_open = mailing.status in ("scheduled", "running", "paused")
    return is_open and mailing.planned_at is None and mailing.terms.starts_at <= now


def _audience(case: Case, mailing: Mailing, messages: Counter[int]) -> Iterator[Violation]:
    for client_id, count in messages.items():
        if count > 1:
            yield Violation("I1", None, f"client {client_id} has {count} messages of mailing {mailing.id}")
    for client in case.evidence.clients:
        if client.id in messages and not _may_have_one(case, mailing, client):
            yield Violation("I1", None, f"client {client.id} has a message of mailing {mailing.id}, unselected")
        if client.id not in messages and _must_have_one(case, mailing, client):
            yield Violation("I1", None, f"client {client.id} has no message of mailing {mailing.id}")


def _may_have_one(case: Case, mailing: Mailing, client: Client) -> bool:
    """Any filter the mailing ever had selects any state the client was ever in."""
    filters = [version.value for version in case.terms[mailing.id]]
    states = [version.value for version in case.traits[client.id]]
    was_in = not client.traits.opted_out or ("client", client.id) in case.about
    return was_in and any(terms.selects(traits) for terms in filters for traits in states)


def _must_have_one(case: Case, mailing: Mailing, client: Client) -> bool:
    """The newest plan is complete and selects the client, whom nobody touched before it was."""
    if mailing.planned_at is None or client.id > mailing.audience_upto:
        return False
    actions = case.about.get(("client", client.id), [])
    if any(action.may_apply_from <= mailing.planned_at + GRACE_S for action in actions):
        return False
    traits = case.traits[client.id][0].value
    opted_out_before = traits.opted_out and not any(action.kind == "opted_out" for action in actions)
    return mailing.terms.selects(traits) and not opted_out_before

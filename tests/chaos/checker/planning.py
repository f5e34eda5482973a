"""I1: every planned recipient has exactly one message, and nobody else has one."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise

from chaos.checker.case import EVERYBODY, Case
from chaos.checker.facts import Client, Mailing, Violation
from chaos.checker.versions import GRACE_S


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
        if client.id not in messages and must_have_one(case, mailing, client):
            yield Violation("I1", None, f"client {client.id} has no message of mailing {mailing.id}")


def _may_have_one(case: Case, mailing: Mailing, client: Client) -> bool:
    """Any filter the mailing ever had selects any state the client was ever in."""
    filters = [version.value for version in case.terms[mailing.id]]
    states = [version.value for version in case.traits[client.id]]
    was_in = not all(traits.opted_out for traits in states)
    return was_in and any(terms.selects(traits) for terms in filters for traits in states)


def must_have_one(case: Case, mailing: Mailing, client: Client) -> bool:
    """Whatever was done to it, it was there and selected from before the newest plan began until that was complete."""
    if mailing.planned_at is None or client.id > mailing.audience_max_client_id:
        return False
    begun, ended = planning_begins(case, mailing), mailing.planned_at + GRACE_S
    if _known_since(case, client) > begun or _left_before(case, client, ended):
        return False
    meanwhile = [each for each in case.traits[client.id] if each.since <= ended and each.until >= begun]
    return all(mailing.terms.selects(each.value) and not each.value.opted_out for each in meanwhile)


def planning_begins(case: Case, mailing: Mailing) -> float:
    """Of the newest plan: not before it was asked for, by its start or by the last edit that changed the terms."""
    versions = case.terms[mailing.id]
    changes = [later.since for earlier, later in pairwise(versions) if earlier.value != later.value]
    begun = max(mailing.terms.starts_at, changes[-1] if changes else mailing.created_at)
    return min(begun, mailing.planned_at or begun)


def _known_since(case: Case, client: Client) -> float:
    """When the file that made it was answered; of those that were there before any file, always."""
    files = [action for action in case.about.get(EVERYBODY, ()) if action.kind == "imported"]
    made_by = [file for file in files if file.may_apply_from <= client.created_at <= file.at_answered]
    if made_by:
        return max(file.at_answered for file in made_by)
    return -math.inf if all(client.created_at < file.may_apply_from for file in files) else math.inf


def _left_before(case: Case, client: Client, moment: float) -> bool:
    actions = case.about.get(("client", client.id), ())
    return any(action.kind == "deleted" and action.may_apply_from <= moment for action in actions)

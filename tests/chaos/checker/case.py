"""The evidence, put in order for the rules: a trail for each message, versions and actions for each subject."""

from collections import defaultdict
from collections.abc import Iterable

from chaos.checker.facts import Action, Evidence
from chaos.checker.traces import trails
from chaos.checker.versions import versions_of_client, versions_of_mailing

Subject = tuple[str, int | None]
EVERYBODY: Subject = ("everybody", None)


class Case:
    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.trails = trails(evidence)
        self.about = _by_subject(evidence.actions)
        self.terms = {
            mailing.id: versions_of_mailing(mailing, self.about.get(("mailing", mailing.id), ()))
            for mailing in evidence.mailings
        }
        self.traits = {
            client.id: versions_of_client(client, self.about.get(("client", client.id), ()))
            for client in evidence.clients
        }


def _by_subject(actions: Iterable[Action]) -> dict[Subject, list[Action]]:
    """In the order of their answers."""
    found: dict[Subject, list[Action]] = defaultdict(list)
    for action in sorted(actions, key=lambda action: action.at_answered):
        found[_subject(action)].append(action)
    return dict(found)


def _subject(action: Action) -> Subject:
    if action.mailing_id is not None:
        return "mailing", action.mailing_id
    return ("client", action.client_id) if action.client_id is not None else EVERYBODY

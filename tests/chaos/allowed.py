"""I7: whether a call may begin at all at its time."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from math import inf
from typing import Final

from chaos.facts import GRACE_S, Action, Call, Client, Evidence, Kind, Mailing, Message, Terms, in_force
from mailing.mailings.window import is_open
from mailing.zones import zone_named

FORBIDDING: Final = {Kind.paused, Kind.cancelled, Kind.deleted, Kind.opted_out, Kind.stopped}
LIFTED_BY: Final = {Kind.resumed: Kind.paused, Kind.opted_in: Kind.opted_out, Kind.started: Kind.stopped}


class Bans:
    """From when until when nothing may begin, for one mailing, one client, or everybody."""

    def __init__(self, evidence: Evidence) -> None:
        self._noticed_s = evidence.noticed_s
        self._of: dict[str, list[tuple[float, float, Kind]]] = defaultdict(list)
        begun: dict[tuple[str, Kind], float] = {}
        for action in sorted(evidence.actions, key=lambda each: each.at_answered):
            whom = _whom(action)
            if action.kind in FORBIDDING:
                begun.setdefault((whom, action.kind), action.at_answered)
            elif (lifted := LIFTED_BY.get(action.kind)) and (whom, lifted) in begun:
                self._of[whom].append((begun.pop((whom, lifted)), action.asked, lifted))
        for (whom, kind), at in begun.items():
            self._of[whom].append((at, inf, kind))

    def broken_by(self, call: Call, message: Message) -> Iterator[str]:
        for whom in (f"mailing {message.mailing_id}", f"client {message.client_id}", "all sending"):
            for begin, end, kind in self._of.get(whom, ()):
                if begin + GRACE_S + self._noticed_s < call.began_at < end:
                    late_s = call.began_at - begin
                    yield f"a call began {late_s:.3f} s after {whom} was answered to be {kind}"


def untimely(call: Call, mailing: Mailing, clients: list[Client], *, noticed_s: float) -> str | None:
    """Why it may not begin under any of the terms, and in any of the time zones, that may have been in force."""
    if not clients:
        return None  # I1 says that this client was never selected
    reasons: list[str] = []
    for terms in in_force(mailing.terms, call.began_at, noticed_s=noticed_s):
        for client in in_force(clients, call.began_at, noticed_s=noticed_s):
            if (reason := _why_not(call.began_at, terms, client, noticed_s)) is None:
                return None
            reasons.append(reason)
    return reasons[-1] if reasons else "a call began before its mailing was asked for"


def _why_not(began_at: float, terms: Terms, client: Client, noticed_s: float) -> str | None:
    if began_at < terms.starts_at:
        return f"a call began {terms.starts_at - began_at:.3f} s before the start"
    if began_at - noticed_s >= terms.ends_at:
        return f"a call began {began_at - terms.ends_at:.3f} s after the end"
    if terms.window is None:
        return None
    zone = zone_named(client.timezone)
    instants = (datetime.fromtimestamp(began_at - late_s, UTC) for late_s in (0.0, noticed_s))
    if any(is_open(terms.window, zone, instant) for instant in instants):
        return None
    wall = datetime.fromtimestamp(began_at, zone)
    return f"a call began at {wall:%H:%M:%S} in {client.timezone}, outside the window"


def _whom(action: Action) -> str:
    if action.mailing_id is not None:
        return f"mailing {action.mailing_id}"
    return "all sending" if action.client_id is None else f"client {action.client_id}"

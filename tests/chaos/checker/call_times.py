"""I7: no call begins before the start, outside the window, at or after the end, or after somebody had stopped it."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime

from msgspec import Struct

from chaos.checker.case import EVERYBODY, Case
from chaos.checker.facts import Action, Call, Message, Terms, Violation
from chaos.checker.versions import GRACE_S, at
from mailing.mailings.window import is_open
from mailing.timezones import known_zone, zone_named

# What each action forbids, and the action that allows it again; `edited` only where it takes the opt-out back.
FORBIDS = {"paused": "resumed", "cancelled": None, "deleted": None, "opted_out": "edited", "stopped": "started"}


class Stop(Struct, frozen=True):
    """From `since` until `until` no call may begin; `kind` is the action that was answered at `said_at`."""

    since: float
    until: float
    kind: str
    said_at: float


def permitted(case: Case) -> Iterator[Violation]:
    stops = {subject: list(_stops(actions, case.evidence.lag_s)) for subject, actions in case.about.items()}
    for trail in case.trails:
        if not trail.message:
            continue
        subjects = (("mailing", trail.message.mailing_id), ("client", trail.message.client_id), EVERYBODY)
        stopped = [stop for subject in subjects for stop in stops.get(subject, ())]
        for call in (pair.call for pair in trail.pairs):
            for sentence in (*_after_stops(call, stopped), *_outside(case, trail.message, call)):
                yield Violation("I7", trail.id, f"call {call.n} began {sentence}")


def _stops(actions: list[Action], lag_s: float) -> Iterator[Stop]:
    """Of one subject, in order."""
    for nth, action in enumerate(actions):
        if action.kind in FORBIDS:
            ends = (later.may_apply_from for later in actions[nth + 1 :] if _takes_back(later, action))
            said_at = action.at_answered
            yield Stop(said_at + GRACE_S + lag_s, next(ends, math.inf), action.kind.replace("_", " "), said_at)


def _takes_back(later: Action, action: Action) -> bool:
    if later.kind != FORBIDS[action.kind]:
        return False
    return later.kind != "edited" or (later.details["before"]["opted_out"] and not later.details["after"]["opted_out"])


def _after_stops(call: Call, stops: list[Stop]) -> Iterator[str]:
    for stop in stops:
        if stop.since < call.began_at < stop.until:
            yield f"{call.began_at - stop.said_at:.2f} s after it was {stop.kind}"


def _outside(case: Case, message: Message, call: Call) -> Iterator[str]:
    """While a change spreads, the old terms and the new, the old zone and the new are both right."""
    versions = case.traits.get(message.client_id, ())
    zones = {traits.timezone for traits in at(call.began_at, versions)}
    terms = at(call.began_at, case.terms.get(message.mailing_id, ()))
    problems = [_problem(call.began_at, each, zones, case.evidence.lag_s) for each in terms]
    if problems and all(problems):
        yield str(problems[-1])


def _problem(began_at: float, terms: Terms, zones: set[str], lag_s: float) -> str | None:
    """Return the terms' objection to a call that the gateway may have noted late."""
    if began_at < terms.starts_at:
        return f"{terms.starts_at - began_at:.2f} s before the start"
    if began_at >= terms.ends_at + lag_s:
        return f"{began_at - terms.ends_at:.2f} s after the end"
    if not zones or any(_opens(terms, zone, moment) for zone in zones for moment in (began_at, began_at - lag_s)):
        return None
    return f"outside the window, at {_utc(began_at):%H:%M:%S} UTC in {' or '.join(sorted(zones))}"


def _opens(terms: Terms, zone: str, moment: float) -> bool:
    """Treat an unknown zone as never open, unless the mailing has no local window."""
    return not terms.window or (known_zone(zone) and is_open(terms.window, zone_named(zone), _utc(moment)))


def _utc(moment: float) -> datetime:
    return datetime.fromtimestamp(moment, UTC)

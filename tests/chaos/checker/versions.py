"""Mailings and clients as they were at each moment: their end, led back through the edits that somebody made."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, time
from typing import Any, Generic, TypeVar

from chaos.checker.facts import Action, Client, Mailing, Terms, Traits
from mailing.mailings.window import LocalWindow

GRACE_S = 1.0
"""How long after the answer a change may still be unknown to those who send."""

T = TypeVar("T")


@dataclass(frozen=True)
class Version(Generic[T]):
    """`value` may apply at any moment in [since, until]; neighbours overlap while a change spreads."""

    since: float
    until: float
    value: T


def versions_of_mailing(mailing: Mailing, actions: Iterable[Action]) -> list[Version[Terms]]:
    """`actions` are those on this mailing, in order."""
    return _versions(mailing.terms, actions, terms_of)


def versions_of_client(client: Client, actions: Iterable[Action]) -> list[Version[Traits]]:
    """`actions` are those on this client, in order."""
    return _versions(client.traits, actions, traits_of)


def at(moment: float, versions: Iterable[Version[T]]) -> list[T]:
    return [version.value for version in versions if version.since <= moment <= version.until]


def _versions(final: T, actions: Iterable[Action], read: Callable[[dict[str, Any]], T]) -> list[Version[T]]:
    """Of edits that were under way at the same time nobody knows the order: each may be the last one."""
    edits = [action for action in actions if action.kind in ("edited", "opted_out")]
    if not edits:
        return [Version(-math.inf, math.inf, final)]
    first = min(edits, key=lambda edit: edit.may_apply_from)
    versions = [Version(-math.inf, edits[0].at_answered + GRACE_S, read(first.details["before"]))]
    for nth, edit in enumerate(edits):
        later = (each.at_answered for each in edits[nth + 1 :] if each.may_apply_from > edit.at_answered)
        until = next(later, math.inf) + GRACE_S
        versions.append(Version(edit.may_apply_from, until, read(edit.details["after"])))
    return versions


def terms_of(mailing: dict[str, Any]) -> Terms:
    """From the API's JSON of a mailing."""
    window = mailing["local_window"]
    return Terms(
        starts_at=_seconds(mailing["starts_at"]),
        ends_at=_seconds(mailing["ends_at"]),
        window=LocalWindow(*(time.fromisoformat(window[edge]) for edge in ("start", "end"))) if window else None,
        tags=mailing["filter"]["tags"],
        operator_codes=mailing["filter"]["operator_codes"],
    )


def traits_of(client: dict[str, Any]) -> Traits:
    """From the API's JSON of a client."""
    return Traits(**{name: client[name] for name in Traits.__struct_fields__})


def _seconds(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp()

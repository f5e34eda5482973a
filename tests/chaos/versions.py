"""Mailings and clients as they were at each moment: their end, led back through the edits that somebody made."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, time
from typing import Any, Generic, TypeVar

from chaos.facts import Action, Client, Mailing, Terms, Traits
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
    edits = [action for action in actions if action.kind == "edited"]
    if not edits:
        return [Version(-math.inf, math.inf, final)]
    values = [read(edits[0].details["before"]), *(read(edit.details["after"]) for edit in edits)]
    since = [-math.inf, *(edit.may_apply_from for edit in edits)]
    until = [*(edit.at_answered + GRACE_S for edit in edits), math.inf]
    return [Version(*each) for each in zip(since, until, values, strict=True)]


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

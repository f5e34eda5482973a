"""What people do to mailings and clients by the API, and how it is remembered."""

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import httpx

from chaos.checker.facts import Action


class Subject(NamedTuple):
    kind: str
    id: int

    @property
    def path(self) -> str:
        return f"/{self.kind}s/{self.id}/"


class Deed(NamedTuple):
    """`kind` as in `facts.Action`; `step` is what follows the subject's path."""

    kind: str
    method: str
    step: str = ""
    body: dict[str, Any] | None = None


PAUSE, RESUME = Deed("paused", "POST", "pause/"), Deed("resumed", "POST", "resume/")
CANCEL = Deed("cancelled", "POST", "cancel/")
DELETE = Deed("deleted", "DELETE")
OPT_OUT = Deed("opted_out", "PATCH", body={"opted_out": True})


def edit(**fields: object) -> Deed:
    return Deed("edited", "PATCH", body=fields)


def from_now(**time: float) -> str:
    return (datetime.now(UTC) + timedelta(**time)).isoformat()


async def act(ask: Callable[..., Awaitable[httpx.Response]], deed: Deed, subject: Subject) -> Action | None:
    """Ask the API; return None for what it refuses because the mailing is over or the client is gone."""
    before = await ask("GET", subject.path)
    at_asked = time.time()
    answer = await ask(deed.method, f"{subject.path}{deed.step}", json=deed.body)
    is_gone = deed.method == "DELETE" and before.is_success and answer.status_code == 404
    if not answer.is_success and not is_gone:
        return None
    details = {"before": before.json()} | ({"after": answer.json()} if answer.status_code == 200 else {})
    ids = {f"{subject.kind}_id": subject.id}
    return Action(at_answered=time.time(), at_asked=at_asked, kind=deed.kind, details=details, **ids)

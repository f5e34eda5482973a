"""What people do in a run: clients and mailings made, and changed while they are sent. Every change is remembered."""

import asyncio
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import httpx

from chaos.facts import Action
from chaos.site import Site
from chaos.timeline import Event, Kind, Scale

MARK: Final = "Zugspitze"  # in every text, and so in nothing but calls and rows
PHONES_FROM: Final = 79_160_000_000
# Part of the run and its share of the messages, the rest is `long`. `windowed`: [3 minutes from now in the second zone,
# 4 minutes from now in the third): open, about to open, about to close, closed. `ending` ends while it is sent.
SHARES: Final = {"windowed": 0.12, "paused": 0.1, "edited": 0.1, "cancelled": 0.06, "deleted": 0.04, "ending": 0.08}
ZONES: Final = ("Asia/Kolkata", "Etc/GMT-5", "Asia/Kathmandu", "Etc/UTC")
KOLKATA: Final = timedelta(hours=5, minutes=30)
PATIENCE_S: Final = 120


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


MAILINGS: Final = {
    Kind.pause: Deed("paused", "POST", "pause/"),
    Kind.resume: Deed("resumed", "POST", "resume/"),
    Kind.cancel: Deed("cancelled", "POST", "cancel/"),
    Kind.delete: Deed("deleted", "DELETE"),
}
CLIENTS: Final = {
    Kind.opt_out: Deed("opted_out", "PATCH", body={"opted_out": True}),
    Kind.delete_client: Deed("deleted", "DELETE"),
    Kind.move_client: Deed("edited", "PATCH", body={"timezone": "Asia/Tokyo"}),
}


class Campaign:
    def __init__(self, here: Site, scale: Scale, seed: int) -> None:
        self.actions: list[Action] = []
        self.mailings: dict[str, int] = {}
        self._here = here
        self._scale = scale
        self._chance = random.Random(seed)  # noqa: S311 - a replay, not a secret
        self._api = here.api()
        self._edits = 0
        self._left_out = False
        self._ends_at = datetime.now(UTC) + timedelta(hours=2)

    async def prepare(self) -> None:
        """The clients: one for each message, the parts told apart by tag, half of each with another operator."""
        columns = ["phone", "operator_code", "tag", "timezone"]
        async with self._here.database.connection() as connection:
            await connection.copy_records_to_table("client", columns=columns, records=list(self._clients()))
            await connection.execute("ANALYZE client")

    async def launch(self) -> None:
        for name in ("long", *SHARES):
            answer = await self._insist("POST", "/mailings/", self._body(name))
            self.mailings[name] = answer.json()["id"]

    async def act(self, event: Event) -> None:
        if event.kind in CLIENTS:
            client = self._chance.randint(1, self._count("long"))
            await self._do(CLIENTS[event.kind], Subject("client", client))
        elif event.kind is Kind.edit:
            await self.edit()
        else:
            await self._do(MAILINGS[event.kind], Subject("mailing", self.mailings[event.target]))

    async def edit(self) -> None:
        """New words every time; half of the audience is left out, then taken back."""
        self._edits += 1
        self._left_out = not self._left_out
        codes = ["916"] if self._left_out else []
        body = {"text": f"{MARK} edited {self._edits}", "filter": {"tags": ["edited"], "operator_codes": codes}}
        await self._do(Deed("edited", "PATCH", "", body), Subject("mailing", self.mailings["edited"]))

    async def plan_anew(self) -> None:
        """The biggest mailing, all of its audience: it ends a second later than it did."""
        self._edits += 1
        body = {"ends_at": (self._ends_at + timedelta(seconds=self._edits)).isoformat()}
        await self._do(Deed("edited", "PATCH", "", body), Subject("mailing", self.mailings["long"]))

    async def close(self) -> None:
        await self._api.aclose()

    async def _do(self, deed: Deed, subject: Subject) -> None:
        """What the API refuses, because the mailing is over or the client gone, was not done."""
        before = await self._insist("GET", subject.path)
        at_asked = time.time()
        answer = await self._insist(deed.method, f"{subject.path}{deed.step}", deed.body)
        is_gone = deed.method == "DELETE" and before.is_success and answer.status_code == 404
        if not answer.is_success and not is_gone:
            return
        details = {"before": before.json()} | ({"after": answer.json()} if answer.status_code == 200 else {})
        ids = {f"{subject.kind}_id": subject.id}
        self.actions.append(Action(at_answered=time.time(), at_asked=at_asked, kind=deed.kind, details=details, **ids))

    async def _insist(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        """Again until the database is back. A POST that had worked all the same is a second mailing."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    answer = await self._api.request(method, path, json=body)
                except httpx.TransportError:
                    await asyncio.sleep(0.2)
                    continue
                if answer.status_code < 500:
                    return answer
                await asyncio.sleep(0.2)

    def _clients(self) -> Iterator[tuple[str, str, str, str]]:
        number = 0
        for name in ("long", *SHARES):
            for nth in range(self._count(name)):
                zone = ZONES[nth // 2 % len(ZONES)] if name == "windowed" else "Etc/UTC"
                yield str(PHONES_FROM + number), ("916", "917")[nth % 2], name, zone
                number += 1

    def _count(self, name: str) -> int:
        if name in SHARES:
            return int(self._scale.messages * SHARES[name])
        return self._scale.messages - sum(map(self._count, SHARES))

    def _body(self, name: str) -> dict[str, Any]:
        now = datetime.now(UTC)
        early = {"ending": self._scale.end_s, "windowed": 4 * self._scale.end_s}
        ends_at = now + timedelta(seconds=early[name]) if name in early else self._ends_at
        body: dict[str, Any] = {
            "text": f"{MARK} {name}",
            "starts_at": (now - timedelta(seconds=1)).isoformat(),
            "ends_at": ends_at.isoformat(),
            "filter": {"tags": [name]},
        }
        if name == "windowed":
            there = now + KOLKATA
            start, end = there - timedelta(minutes=27), there + timedelta(minutes=19)
            body["local_window"] = {"start": f"{start:%H:%M}", "end": f"{end:%H:%M}"}
        return body

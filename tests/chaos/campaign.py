"""What people do in a run: clients and mailings made, and changed while they are sent. Every change is remembered."""

import asyncio
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx
from msgspec import Struct, field

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


class Action(Struct, frozen=True, kw_only=True):
    """`asked` is when the first try began: it may have worked although its answer was lost."""

    asked: datetime
    answered: datetime
    kind: str
    mailings: list[int] = field(default_factory=list)
    clients: list[int] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


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
        mailing = self.mailings[event.target]
        match event.kind:
            case Kind.pause:
                await self._change("paused", "POST", f"/mailings/{mailing}/pause/", mailings=[mailing])
            case Kind.resume:
                await self._change("resumed", "POST", f"/mailings/{mailing}/resume/", mailings=[mailing])
            case Kind.edit:
                await self.edit(mailing)
            case Kind.cancel:
                await self._change("cancelled", "POST", f"/mailings/{mailing}/cancel/", mailings=[mailing])
            case Kind.delete:
                await self._change("deleted", "DELETE", f"/mailings/{mailing}/", mailings=[mailing])
            case _:
                await self._change_client(event.kind)

    async def edit(self, mailing: int) -> None:
        """New words every time; half of the audience is left out, then taken back."""
        self._edits += 1
        self._left_out = not self._left_out
        codes = ["916"] if self._left_out else []
        body = {"text": f"{MARK} edited {self._edits}", "filter": {"tags": ["edited"], "operator_codes": codes}}
        await self._change("edited", "PATCH", f"/mailings/{mailing}/", mailings=[mailing], body=body)

    async def plan_anew(self) -> None:
        """The biggest mailing, all of its audience: it ends a second later than it did."""
        self._edits += 1
        mailing, ends_at = self.mailings["long"], self._ends_at + timedelta(seconds=self._edits)
        body = {"ends_at": ends_at.isoformat()}
        await self._change("edited", "PATCH", f"/mailings/{mailing}/", mailings=[mailing], body=body)

    async def close(self) -> None:
        await self._api.aclose()

    async def _change_client(self, kind: Kind) -> None:
        client = self._chance.randint(1, self._count("long"))
        path = f"/clients/{client}/"
        match kind:
            case Kind.opt_out:
                await self._change("opted_out", "PATCH", path, clients=[client], body={"opted_out": True})
            case Kind.delete_client:
                await self._change("deleted", "DELETE", path, clients=[client])
            case _:
                await self._change("edited", "PATCH", path, clients=[client], body={"timezone": "Asia/Tokyo"})

    async def _change(
        self,
        kind: str,
        method: str,
        path: str,
        *,
        mailings: list[int] | None = None,
        clients: list[int] | None = None,
        body: dict[str, Any] | None = None,
    ) -> None:
        asked = datetime.now(UTC)
        answer = await self._insist(method, path, body)
        if answer.is_success or (method == "DELETE" and answer.status_code == 404):
            self.actions.append(
                Action(
                    asked=asked,
                    answered=datetime.now(UTC),
                    kind=kind,
                    mailings=mailings or [],
                    clients=clients or [],
                    details=body or {},
                )
            )

    async def _insist(self, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response:
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

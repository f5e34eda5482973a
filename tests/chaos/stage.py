"""A small run in one process: the API, workers, the scripted gateway on a socket, a real database."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from sqlalchemy import text

from chaos.evidence import calls_of, clients_now, evidence_of
from chaos.facts import Action, Call, Client, Evidence, Kill, Kind
from chaos.gateway import ScriptedGateway
from chaos.reactions import Script
from mailing.db import Sessions, transaction
from mailing.gateway.client import Gateway
from mailing.messages.repository import Claimed, claim
from mailing.sending.plan import plan_mailing
from mailing.settings import Settings
from mailing.site import free_port
from mailing.worker import run_worker
from sending.conftest import Campaign

PATIENCE_S = 25.0  # less than what `Campaign.until` has
NOTICED_S = 0.5  # gateway, worker and API share one event loop here
MADE = {Kind.created: "", Kind.paused: "pause", Kind.resumed: "resume", Kind.cancelled: "cancel"}


@dataclass
class Stage:
    """Notes what it asks of the API. `patience_s`: how long it waits for quiet, which a bug may never let come."""

    campaign: Campaign
    settings: Settings
    gateway: ScriptedGateway
    ledger: Path
    patience_s: float = PATIENCE_S
    actions: list[Action] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)

    @property
    def sessions(self) -> Sessions:
        return self.campaign.sessions

    async def behave(self, **script: Any) -> None:  # noqa: ANN401 - the fields of Script
        await self.gateway.follow(Script(**script))

    @asynccontextmanager
    async def working(self, **changed: Any) -> AsyncIterator[None]:  # noqa: ANN401 - settings of any type
        """A worker for as long as the block lasts."""
        stop = asyncio.Event()
        worker = asyncio.create_task(run_worker(replace(self.settings, **changed), stop))
        try:
            yield
        finally:
            stop.set()
            await worker

    async def mailing(self, count: int, *, timezone: str = "UTC", **fields: Any) -> int:  # noqa: ANN401 - as the API takes it
        """To `count` new clients; it began a second ago and lasts an hour unless `fields` say otherwise."""
        await self.campaign.clients(count, timezone=timezone)
        self.clients = await clients_now(self.sessions)
        now = datetime.now(UTC)
        body = {
            "text": "hello",
            "starts_at": (now + timedelta(seconds=fields.pop("starts_in_s", -1))).isoformat(),
            "ends_at": (now + timedelta(seconds=fields.pop("lasts_s", 3600))).isoformat(),
        }
        made = await self._ask(Kind.created, "POST", "/mailings/", json=body | fields)
        self.actions[-1].mailing_id = made["id"]
        return int(made["id"])

    async def edit(self, mailing_id: int, **fields: object) -> None:
        await self._ask(Kind.edited, "PATCH", f"/mailings/{mailing_id}/", mailing_id=mailing_id, json=fields)

    async def control(self, kind: Kind, mailing_id: int) -> None:
        await self._ask(kind, "POST", f"/mailings/{mailing_id}/{MADE[kind]}", mailing_id=mailing_id)

    async def opt_out(self, client_id: int) -> None:
        path = f"/clients/{client_id}/"
        await self._ask(Kind.opted_out, "PATCH", path, client_id=client_id, json={"opted_out": True})

    async def dying_worker(self, mailing_id: int, count: int, *, calls: bool = True) -> list[Claimed]:
        """Plans, claims, calls, and is gone before it records; its leases have run out."""
        await plan_mailing(self.sessions, mailing_id)
        async with transaction(self.sessions) as session:
            claimed = await claim(session, mailing_id, count)
        if calls:
            await self._call(claimed)
        self.kills.append(Kill(0, time.time()))
        await self.campaign.rows(
            "UPDATE message SET lease_until = now() - interval '1 s' WHERE status = 'sending' RETURNING id"
        )
        return claimed

    async def _call(self, claimed: list[Claimed]) -> None:
        settings = self.settings
        gateway = Gateway(base_url=str(settings.gateway_url), token="t", timeout_s=5, concurrency=4)
        async with gateway:
            for message in claimed:
                await gateway.send(message.id, phone=message.phone, text="hello", time_left_s=5)

    async def alter(self, statement: str) -> None:
        """Changes the schema of the test's own database."""
        async with transaction(self.sessions) as session:
            await session.execute(text(statement))

    def calls(self) -> list[Call]:
        return calls_of(self.ledger)

    async def called(self, count: int) -> None:
        """Until the gateway has seen as many calls begin."""

        async def seen() -> bool:
            return len(self.calls()) >= count

        await self.campaign.until(seen)

    async def quiet(self) -> None:
        """Until every message is final, or patience is over: the checker then says what is not."""
        await self._patiently(lambda: self._none(("pending", "sending")))

    async def nothing_under_way(self) -> None:
        await self._patiently(lambda: self._none(("sending",)))

    async def _none(self, statuses: tuple[str, ...]) -> bool:
        found = await self.campaign.rows(
            "SELECT count(*) FILTER (WHERE status = ANY(:statuses)), count(*) FROM message", statuses=list(statuses)
        )
        return bool(found[0][0] == 0 and found[0][1])

    async def _patiently(self, holds: Callable[[], Awaitable[bool]]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self.patience_s):
                await self.campaign.until(holds)

    async def evidence(self) -> Evidence:
        found = await evidence_of(
            self.sessions,
            self.campaign.api,
            ledger=self.ledger,
            clients=self.clients,
            actions=self.actions,
            kills=self.kills,
        )
        found.noticed_s = NOTICED_S
        return found

    async def _ask(self, kind: Kind, method: str, path: str, **asked: Any) -> Any:  # noqa: ANN401 - ids and a body
        ids = {name: asked.pop(name) for name in ("mailing_id", "client_id") if name in asked}
        asked_at = time.time()
        answer = (await self.campaign.api.request(method, path, **asked)).raise_for_status()
        self.actions.append(Action(at_answered=time.time(), kind=kind, details=answer.json(), asked_at=asked_at, **ids))
        return answer.json()


@asynccontextmanager
async def staged(settings: Settings, campaign: Campaign, directory: Path) -> AsyncIterator[Stage]:
    port, ledger = free_port(), directory / "ledger"
    gateway = ScriptedGateway(port=port, ledger=ledger, seed=0)
    quick = replace(
        settings,
        gateway_url=f"http://127.0.0.1:{port}/v1",
        gateway_token="t",
        gateway_timeout_s=5.0,
        gateway_concurrency=8,
        retry_base_s=0.05,
        retry_max_s=0.2,
        log_level="error",
    )
    await gateway.open()
    try:
        yield Stage(campaign, quick, gateway, ledger)
    finally:
        await gateway.close()

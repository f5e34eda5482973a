"""A small world for the checker's own tests: API, worker and scripted gateway in one process, and a history of it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from sqlalchemy import text

from chaos.checker.deeds import Deed, Subject, act
from chaos.checker.evidence import collect
from chaos.checker.facts import Absence, Action, History, Reported, Violation
from chaos.checker.invariants import check
from chaos.checker.versions import GRACE_S
from chaos.gateway.receipts import sending_receipts
from chaos.gateway.server import Gateway
from mailing.database.engine import transaction
from mailing.messages.locks import lock_for_client_change
from mailing.sending.sweep import sweep
from mailing.settings import Settings
from mailing.worker import policy_of
from support.campaign import ApiCaller, WorkerOf
from support.processes import until

PATIENCE_S = 60.0
IDLE_S = 2.0


@dataclass
class Stage:
    """`is_faulty`: with a bug in the product a run may never settle, so it also ends when the gateway is left alone."""

    campaign: ApiCaller
    gateway: Gateway
    ledger: Path
    settings: Settings
    worker_of: WorkerOf
    is_faulty: bool = False
    lease_left_s: float = 15.0
    actions: list[Action] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)
    locked: list[int] = field(default_factory=list)
    reported: list[Reported] = field(default_factory=list)

    def working(self, **changes: Any) -> AbstractAsyncContextManager[None]:  # noqa: ANN401 - fields of Settings
        return self.worker_of(replace(self.settings, **changes))

    async def act(self, deed: Deed, subject: Subject) -> None:
        action = await act(self.campaign.api.request, deed, subject)
        assert action, f"the API refused {deed}"
        self.actions.append(action)

    async def stop_everything(self) -> None:
        await self.campaign.db.run("UPDATE gateway SET stopped_at = now(), stopped_by = 'a test'")
        self.actions.append(Action(kind="stopped", at_answered=time.time()))

    async def start_everything(self) -> None:
        asked_at = time.time()
        await self.campaign.db.run("UPDATE gateway SET stopped_at = NULL, stopped_by = NULL")
        self.actions.append(Action(kind="started", at_asked=asked_at, at_answered=time.time()))

    @property
    def lag_s(self) -> float:
        """Gateway and product share one busy loop here."""
        return 0.1 + self.gateway.summary().greatest_lag_s

    async def let_it_spread(self) -> None:
        """Longer than the last change may take to reach whoever sends, and than a call may be noted late."""
        since = self.actions[-1].at_answered
        await until(lambda: time.time() > since + GRACE_S + 0.2 + self.lag_s, seconds=PATIENCE_S)

    async def lose_leases(self) -> None:
        """As when every worker stood still for a minute."""
        self.lease_left_s = 0.0
        self.absences.append(Absence(0.0, time.time()))
        await self.run_leases_out()

    async def run_leases_out(self) -> None:
        """As when a minute had passed, and every worker lived, until another one has called again."""
        await self.campaign.db.run("""
            UPDATE message SET lease_until = now() - interval '1 s' WHERE id = ANY(ARRAY(
                SELECT id FROM message WHERE status = 'sending' FOR UPDATE SKIP LOCKED))""")
        await self.campaign.until(self._is_called_again)

    async def _is_called_again(self) -> bool:
        """Whatever is not final and whose row nobody holds. A worker that still calls it drops the sweep's job."""
        await sweep(self.campaign.db.sessions, policy_of(self.settings))
        again = [message for message, calls in self.gateway.ledger.calls_of.items() if calls > 1]
        waiting = "SELECT 1 FROM message WHERE status IN ('pending', 'sending') AND NOT id = ANY(:others)"
        return not await self.campaign.db.run(waiting, others=[*again, *self.locked])

    @asynccontextmanager
    async def sending_receipts(self) -> AsyncIterator[None]:
        """The provider reports what it accepted, in every way that receipts come."""
        ((key,),) = await self.campaign.db.run("SELECT receipt_key FROM installation")
        base = str(self.campaign.api.base_url).removesuffix("/mailing/api/")
        async with sending_receipts(self.ledger, self.campaign.api, bytes(key), base=base) as sender:
            yield
        self.reported += sender.reported

    @asynccontextmanager
    async def locked_row(self, message: int) -> AsyncIterator[None]:
        """Somebody's transaction holds the row of a message that is being sent."""
        self.locked.append(message)
        async with transaction(self.campaign.db.sessions) as session:
            await session.execute(text("SELECT 1 FROM message WHERE id = :id FOR UPDATE"), {"id": message})
            yield

    @asynccontextmanager
    async def refusing_row(self, message: int) -> AsyncIterator[None]:
        """Refuse every attempt of one message that is being sent."""
        self.locked.append(message)
        check = f"CHECK (message_id <> {message}) NOT VALID"
        await self.define(f"ALTER TABLE attempt ADD CONSTRAINT refusing {check}")
        yield
        await self.define("ALTER TABLE attempt DROP CONSTRAINT refusing")

    @asynccontextmanager
    async def changing_clients(self) -> AsyncIterator[None]:
        """Somebody's change of a client, which no plan goes beside."""
        async with transaction(self.campaign.db.sessions) as session:
            await lock_for_client_change(session)
            yield

    async def define(self, *statements: str) -> None:
        """Something in the schema of the stage's own database."""
        async with transaction(self.campaign.db.sessions) as session:
            for statement in statements:
                await session.execute(text(statement))

    async def settle(self) -> None:
        """Until every message is final, or the faulty product has had its time."""
        give_up_at = time.monotonic() + PATIENCE_S
        while not await self._is_settled() and not (self.is_faulty and self._is_idle()):
            assert time.monotonic() < give_up_at, "it did not settle in time"
            await asyncio.sleep(0.05)

    async def called(self, least: int = 1) -> None:
        await self.campaign.until(lambda: self.gateway.ledger.calls_of.total() >= least)

    async def violations(self) -> list[Violation]:
        history = History(
            actions=self.actions,
            absences=self.absences,
            locked=frozenset(self.locked),
            reported=self.reported,
            lag_s=self.lag_s,
            lease_left_s=self.lease_left_s,
        )
        return check(await collect(self.campaign.db.sessions, self.campaign.api, self.ledger, history))

    async def _is_settled(self) -> bool:
        unplanned = "SELECT 1 FROM mailing WHERE status = 'running' AND planned_revision < plan_revision"
        unsent = "SELECT 1 FROM message WHERE status IN ('pending', 'sending')"
        return not await self.campaign.db.run(f"{unplanned} UNION ALL {unsent}")

    def _is_idle(self) -> bool:
        ledger = self.gateway.ledger
        too_much = ledger.calls_of.total() > 5 * max(1, len(ledger.calls_of))
        idle_s = time.time() - ledger.last_at
        return too_much or (bool(ledger.calls_of) and not ledger.under_way and idle_s > IDLE_S)

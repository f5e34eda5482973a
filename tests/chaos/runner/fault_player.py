"""Plays a timeline: each fault when the run has come that far."""

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final

import asyncpg
from msgspec import Struct

from chaos.runner.campaign import Campaign
from chaos.runner.environment import Site
from chaos.runner.observer import Observer
from chaos.runner.supervisor import Freezes
from chaos.runner.timeline import ANY_WORKER, Event, Kind, Trial

CALM_S: Final = 10.0  # before an outage: the rate to compare with
SLOW_S: Final = 0.2
BEING_SENT: Final = """
    SELECT id FROM message WHERE status = 'sending' ORDER BY lease_until DESC LIMIT 1 FOR UPDATE SKIP LOCKED"""
RECORDED_S: Final = 3.0  # after a lock: whoever waited for it has written down what it knows
DISRUPTIVE: Final = frozenset({Kind.kill, Kind.restart, Kind.terminate, Kind.freeze, Kind.network})
LASTING: Final = frozenset({Kind.churn, Kind.swarm, Kind.extend})  # people are at it while other things go wrong
TIMED: Final = frozenset({Kind.freeze, Kind.outage, Kind.lock, *LASTING})  # they note themselves when they were


class Happened(Struct, frozen=True):
    event: Event
    begun: datetime
    ended: datetime


class Player:
    """A kill waits for its process to come by the point; what lasts goes on beside the next events.

    An outage has the stage for itself, from a calm before to a while after it, so that its recovery can be measured; a
    locked row, too.
    """

    def __init__(self, here: Site, campaign: Campaign, seen: Observer, trial: Trial) -> None:
        self.happened: list[Happened] = []
        self.left: list[Event] = []
        self.locked: list[int] = []
        self.here = here
        self.campaign = campaign
        self.seen = seen
        self.trial = trial
        self._beside: set[asyncio.Task[None]] = set()
        self._freezing = Freezes(here.processes, trial.workers)
        self._freezes: list[asyncio.Task[None]] = []
        self._people: list[asyncio.Task[None]] = []
        self._orders: dict[int, Event] = {}

    async def play(self, events: list[Event]) -> None:
        try:
            await self._play_all(events)
            await asyncio.gather(*self._beside, *self._people)
        finally:
            for task in self._beside:
                task.cancel()

    @property
    def open_orders(self) -> list[Event]:
        """Kills whose point was not reached so far."""
        done = {kill.order for kill in self.here.processes.kills}
        return [event for order, event in self._orders.items() if order not in done]

    async def _play_all(self, events: list[Event]) -> None:
        for number, event in enumerate(events):
            if not await self.seen.reaches(event.at):
                self.left = events[number:]
                break
            with nullcontext() if event.kind in TIMED else self._noted(event):
                await self._play(event)
            if event.kind in DISRUPTIVE:
                await asyncio.sleep(self.trial.apart_s)

    async def _play(self, event: Event) -> None:
        match event.kind:
            case Kind.kill:
                await self._kill(event)
            case Kind.restart:
                await asyncio.to_thread(self.here.database.restart_immediately)
            case Kind.terminate:
                await self.here.database.terminate_backends()
            case Kind.freeze:
                self._freezes.append(self._start_beside(self._freeze(event)))
            case Kind.outage:
                await self._outage(event)
            case Kind.network:
                await self._disturb(event)
            case Kind.lock:
                await self._lock(event)
            case Kind.churn | Kind.swarm | Kind.extend:
                self._people.append(self._start_beside(self._act(event)))
            case _:
                await self.campaign.act(event)

    @contextmanager
    def _noted(self, event: Event) -> Iterator[None]:
        begun = datetime.now(UTC)
        yield
        self.happened.append(Happened(event, begun, datetime.now(UTC)))

    async def _act(self, event: Event) -> None:
        with self._noted(event):
            await self.campaign.act(event)

    async def _kill(self, event: Event) -> None:
        if event.point == "report.accepted":
            self._start_beside(self._report())
            return
        of = self.here.workers if event.target == ANY_WORKER else [event.target]
        order = self.here.processes.order(event.point, of=of, hits=event.hits)
        self._orders[order] = event
        if event.point.startswith("plan."):
            await self.campaign.plan_anew()
        if event.point == "stop.draining":
            self._start_beside(self._ask_to_stop(event.target, order))

    async def _report(self) -> None:
        """Of another day each time: one whose try was cut short elsewhere has its lease for a while."""
        today = datetime.now(UTC).date()
        commands = (["report", "--date", str(today - timedelta(days=days))] for days in count(1))
        await self.here.processes.run_until_killed("report", commands, self.here.reporting, point="report.accepted")

    async def _ask_to_stop(self, worker: str, order: int) -> None:
        """Again, and ever later, if it was killed, or not yet up, before it heard."""
        patience_s = 2.0
        while order not in {kill.order for kill in self.here.processes.kills}:
            self.here.processes[worker].signal(signal.SIGTERM)
            await asyncio.sleep(patience_s)
            patience_s *= 2

    async def _freeze(self, event: Event) -> None:
        begun, ended = await self._freezing.freeze(event.target, event.seconds)
        self.happened.append(Happened(event, begun, ended))

    async def _disturb(self, event: Event) -> None:
        """Break the network between the first worker and PostgreSQL."""
        proxy = self.here.proxy
        match event.target:
            case "down":
                await proxy.stop()
            case "reset":
                await proxy.reset()
            case "forget":
                proxy.forget()
            case "freeze":
                proxy.freeze()
            case _:
                proxy.latency_s = SLOW_S
        await asyncio.sleep(event.seconds)
        proxy.thaw()
        proxy.latency_s = 0.0
        if event.target == "down":
            await proxy.start()

    async def _outage(self, event: Event) -> None:
        await asyncio.gather(*self._freezes, *self._people)
        await asyncio.sleep(CALM_S)
        with self._noted(event):
            await self.here.witness.behave(mode=event.target)
            await asyncio.sleep(event.seconds)
            await self.here.witness.behave(mode="normal")
        await asyncio.sleep(self.trial.settle_s)

    async def _lock(self, event: Event) -> None:
        """Somebody's transaction holds the row of a message that is being sent."""
        await asyncio.gather(*self._beside)
        async with self.here.database.connection() as connection, connection.transaction():
            self.locked.append(await self._lock_what_is_sent(connection))
            with self._noted(event):
                await asyncio.sleep(event.seconds)
        await asyncio.sleep(RECORDED_S)

    async def _lock_what_is_sent(self, connection: asyncpg.Connection) -> int:
        """Return the message's id."""
        while True:
            if message := await connection.fetchval(BEING_SENT):
                return int(message)
            await asyncio.sleep(0.05)

    def _start_beside(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)
        return task

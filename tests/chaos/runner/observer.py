"""What is looked at while a run goes on: its progress, the API under load, leases, idle transactions."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

import asyncpg
import httpx
from msgspec import Struct, field

from chaos.runner.environment import KEY, Site
from chaos.runner.load import Latencies, load
from mailing.database.connections import DRIVER_ERRORS

LOOK_EVERY_S: Final = 1.0
SLICE_S: Final = 5.0
API_RATE: Final = 10.0
TROUBLE: Final = (httpx.TransportError, *DRIVER_ERRORS, TimeoutError)
OLDEST_IDLE_S: Final = """
    SELECT max(extract(epoch FROM clock_timestamp() - state_change)) FROM pg_stat_activity
    WHERE datname = current_database() AND state LIKE 'idle in transaction%'"""
# For small runs: whoever lives calls or gives back within seconds, so what is older was a killed worker's.
SOONER_FREE: Final = """
    UPDATE message SET lease_until = now() - interval '1 s' WHERE id = ANY(ARRAY(
        SELECT id FROM message WHERE status = 'sending' AND lease_until < now() + interval '50 s'
        FOR UPDATE SKIP LOCKED))"""
SOONER_PLANNED: Final = """
    UPDATE mailing SET plan_heartbeat_at = now() - interval '1 minute'
    WHERE planned_revision < planning_revision AND plan_heartbeat_at < now() - interval '5 s'"""


class Slice(Struct, frozen=True):
    """The API's answers to requests that began within SLICE_S from `at` on."""

    at: datetime
    found: Latencies


class Seen(Struct):
    """`overdue_s`: how long a lease that had run out was held at most. `idle_s`: the oldest idle transaction. `open`:
    mailings that are not over yet.
    """

    overdue_s: float = 0.0
    idle: list[tuple[datetime, float]] = field(default_factory=list)
    slices: list[Slice] = field(default_factory=list)
    final: int = 0
    planned: int = 0
    open: int = 1


class Observer:
    def __init__(self, here: Site, api: httpx.AsyncClient, *, messages: int, is_quick: bool) -> None:
        self.seen = Seen()
        self._here = here
        self._messages = messages
        self._is_quick = is_quick
        self._api = api

    @property
    def progress(self) -> float:
        return self.seen.final / self._messages

    @property
    def is_over(self) -> bool:
        """No mailing is open. Whoever left before the plan reached them has no message: a count would never be full."""
        return self.seen.open == 0 and self.seen.planned > 0 and self.seen.final == self.seen.planned

    async def reaches(self, share: float) -> bool:
        """Wait until that share of the messages is final; return False if the run is over before."""
        while True:
            if self.is_over:
                return False
            if self.progress >= share:
                return True
            await asyncio.sleep(0.1)

    async def end(self, *, stuck_s: float) -> None:
        """Wait until every message is final, or none has become so for `stuck_s`."""
        final, since = self.seen.final, time.monotonic()
        while not self.is_over and time.monotonic() - since < stuck_s:
            await asyncio.sleep(0.2)
            if self.seen.final != final:
                final, since = self.seen.final, time.monotonic()

    async def watch_progress(self) -> None:
        statistics = (await self._api.get("/statistics/", params={"limit": 500})).json()
        counts = statistics["messages"]
        self.seen.open = sum(each["status"] not in {"finished", "cancelled"} for each in statistics["items"])
        self.seen.planned = counts["planned"]
        self.seen.final = counts["planned"] - counts["pending"] - counts["sending"]

    async def watch_database(self) -> None:
        async with self._here.database.connection() as connection:
            while True:
                await self._look(connection)
                await asyncio.sleep(LOOK_EVERY_S)

    async def load_api(self) -> None:
        """Statistics, the list, a message: what dashboards ask all the time."""
        paths = ["/mailing/api/statistics/", "/mailing/api/mailings/", "/mailing/api/messages/1/"]
        at = datetime.now(UTC)
        found = await load(self._here.url, KEY, paths, rate=API_RATE, seconds=SLICE_S)
        self.seen.slices.append(Slice(at, found))

    async def _look(self, connection: asyncpg.Connection) -> None:
        overdue = await connection.fetchval(
            "SELECT extract(epoch FROM now() - min(lease_until)) FROM message WHERE status = 'sending'"
        )
        idle = await connection.fetchval(OLDEST_IDLE_S)
        self.seen.overdue_s = max(self.seen.overdue_s, float(overdue or 0))
        if idle:
            self.seen.idle.append((datetime.now(UTC), float(idle)))
        if self._is_quick:
            await connection.execute(SOONER_FREE)
            await connection.execute(SOONER_PLANNED)


@asynccontextmanager
async def observer(here: Site, *, messages: int, is_quick: bool) -> AsyncIterator[Observer]:
    async with here.api() as api:
        own = Observer(here, api, messages=messages, is_quick=is_quick)
        watches = (own.watch_progress, own.watch_database, own.load_api)
        tasks = [asyncio.create_task(_again_and_again(watch)) for watch in watches]
        try:
            yield own
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _again_and_again(look: Callable[[], Awaitable[None]]) -> None:
    """Also while the database or the API is away."""
    while True:
        try:
            await look()
        except TROUBLE:
            pass
        except KeyError:  # a problem instead of an answer
            pass
        await asyncio.sleep(0.3)

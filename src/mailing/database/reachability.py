"""Detect a database that does not answer at all, so that no API request waits for it (decision 9).

A slow statement is not evidence, because the server may be busy. So a probe is sent on a connection of its own and, as
soon as that is silent, on a new one. If nothing is answered, the database is away: its connections are closed, so that
no statement waits on them, and only the probe opens new ones until it is answered.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakSet

import asyncpg

from mailing.database import connections
from mailing.database.address import parse
from mailing.database.connector import Connector

TICK_S: Final = 0.25
PROBE_AFTER_TICKS: Final = 2  # silent ticks before a probe is sent; any other answer makes it unnecessary
AWAY_AFTER_TICKS: Final = 8  # silent ticks after which the database is away
MAX_LATE_S: Final = 0.05  # of a tick; a later one does not count, because the process itself was held up
PING_S: Final = 0.5  # less than connections.PING_S: a new connection is probed too before the database counts as away


class Reachability:
    """Count ticks since the last answer. A process that is frozen, or gets no processor, counts none meanwhile."""

    def __init__(self, url: str, *, application: str, limit_s: float) -> None:
        """`limit_s`: of a statement on the connections that `connect` opens."""
        command_timeout_s = limit_s + connections.DRIVER_GRACE_S
        self.connector = Connector(parse(url), application=application, command_timeout_s=command_timeout_s)
        self.silent_ticks = 0
        self._probing: asyncio.Task[None] | None = None
        self._probe_connection: asyncpg.Connection | None = None
        self._open: WeakSet[asyncpg.Connection] = WeakSet()
        self._connecting: set[asyncio.Timeout] = set()

    @property
    def is_away(self) -> bool:
        return self.silent_ticks >= AWAY_AFTER_TICKS

    def record_answer(self) -> None:
        self.silent_ticks = 0

    async def connect(self) -> asyncpg.Connection:
        """Connect as `Connector` does. Raise OSError if the database is away, or once it is."""
        if self.is_away:
            raise ConnectionError("the database does not answer")
        async with asyncio.timeout(None) as limit:
            self._connecting.add(limit)
            try:
                connection = await self.connector.connect()
            finally:
                self._connecting.discard(limit)
        self.record_answer()
        self._open.add(connection)
        return connection

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        ticking = asyncio.create_task(self._run())
        try:
            yield
        finally:
            ticking.cancel()
            await asyncio.wait({ticking})
            await self.aclose()

    async def aclose(self) -> None:
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait({self._probing})
        self._drop_probe_connection()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_at = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            if loop.time() - due_at <= MAX_LATE_S:
                self.tick()

    def tick(self) -> None:
        """Send a probe if nothing else was answered, one at a time. Close all connections when the database is away."""
        self.silent_ticks += 1
        if self.silent_ticks == AWAY_AFTER_TICKS:
            self._close_all()
        if self.silent_ticks >= PROBE_AFTER_TICKS and (self._probing is None or self._probing.done()):
            self._probing = asyncio.create_task(self._probe())

    def _close_all(self) -> None:
        now = asyncio.get_running_loop().time()
        for limit in self._connecting:
            limit.reschedule(now)
        for connection in self._open - connections.EXEMPT_FROM_REACHABILITY:
            connection.terminate()

    async def _probe(self) -> None:
        try:
            if self._probe_connection is None:
                self._probe_connection = await self.connector.connect()
            else:
                await self._probe_connection.execute("SELECT", timeout=PING_S)
        except connections.DRIVER_ERRORS as error:
            self._drop_probe_connection()
            if not connections.was_answered(error):
                return
        self.record_answer()

    def _drop_probe_connection(self) -> None:
        if self._probe_connection is not None:
            self._probe_connection.terminate()
            self._probe_connection = None

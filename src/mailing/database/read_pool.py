"""Single statements that only read, on connections kept for them."""

import asyncio
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util import greenlet_spawn

from mailing.database import connections

MAX_READERS = 5  # of the engine's connections, kept for reads; a statement is done within a millisecond as a rule
MAX_WAIT_S = 5  # longer than it takes whoever has a connection to find it dead and to get a good one


class ReadPool:
    """Single statements that only read, by the driver itself on connections kept for them (decision 22).

    No connection is asked for an answer first: a read that finds it dead, or hears nothing from it for PROOF_S, is done
    again on one that was asked. Raises asyncpg's errors, as what goes through `driver` does.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._turns = asyncio.Semaphore(MAX_READERS)
        self._idle: list[PoolProxiedConnection] = []  # the one used last is taken first

    @property
    def idle(self) -> int:
        """Connections that the engine's pool takes for used."""
        return len(self._idle)

    async def row(self, statement: str, *values: object) -> Any:  # noqa: ANN401 - a record
        """The first one, or None."""
        return next(iter(await self.rows(statement, *values)), None)

    async def rows(self, statement: str, *values: object) -> list[Any]:
        """`statement` has `$1`, `$2` …"""
        await self._turn()
        try:
            return await self._done(statement, values)
        finally:
            self._turns.release()

    async def _turn(self) -> None:
        """Raises TimeoutError; it need not be timed where nobody waits."""
        if self._turns.locked():
            async with asyncio.timeout(MAX_WAIT_S):
                await self._turns.acquire()
        else:
            await self._turns.acquire()

    async def _done(self, statement: str, values: tuple[object, ...]) -> list[Any]:
        if self._idle:
            try:
                return await self._asked(self._idle.pop(), statement, values, connections.PING_S)
            except connections.DRIVER_ERRORS as error:
                if connections.was_answered(error):
                    raise
                self._drop()  # the others are as old
        return await self._asked(await self._engine.raw_connection(), statement, values, None)

    async def _asked(
        self, connection: PoolProxiedConnection, statement: str, values: tuple[object, ...], limit_s: float | None
    ) -> list[Any]:
        """Without a limit of its own it has the connection's."""
        driver: Any = connection.driver_connection
        try:
            rows: list[Any] = await driver.fetch(statement, *values, timeout=limit_s)
        except BaseException as error:
            if connections.was_answered(error):
                self._idle.append(connection)
            else:
                connection.invalidate()
            raise
        self._idle.append(connection)
        return rows

    def _drop(self) -> None:
        while self._idle:
            self._idle.pop().invalidate()

    async def aclose(self) -> None:
        """Gives back what is idle."""
        while self._idle:
            await greenlet_spawn(self._idle.pop().close)

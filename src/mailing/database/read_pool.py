"""A connection pool for single statements that may be repeated: reads, and the upsert of receipts."""

import asyncio
from typing import Any

from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util import greenlet_spawn

from mailing.database import connections

MAX_READERS = 8  # of the engine's connections, kept for reads; a statement usually takes less than a millisecond
MAX_WAIT_S = 5  # longer than it takes a reader to find its connection dead and open another


class ReadPool:
    """Run single statements directly on the driver, on connections kept for them (decision 22).

    Connections are not pinged first. A statement that finds its connection dead, or gets no answer within PING_S, is
    repeated on one that was pinged, though it may have been done. It raises asyncpg's errors, as `raw_connection` does,
    and DBAPIError if the server refuses a connection.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._free = asyncio.Semaphore(MAX_READERS)
        self._idle: list[PoolProxiedConnection] = []  # last in, first out

    @property
    def idle(self) -> int:
        """The number of idle connections here, which the engine's pool counts as used."""
        return len(self._idle)

    async def row(self, statement: str, *values: object) -> Any:  # noqa: ANN401 - a record
        return next(iter(await self.rows(statement, *values)), None)

    async def rows(self, statement: str, *values: object) -> list[Any]:
        """Return all rows. Parameters in `statement` are `$1`, `$2` …."""
        await self._acquire()
        try:
            return await self._read(statement, values)
        finally:
            self._free.release()

    async def _acquire(self) -> None:
        """Wait for a free connection. Raise TimeoutError. Without waiting readers, no timer is needed."""
        if self._free.locked():
            async with asyncio.timeout(MAX_WAIT_S):
                await self._free.acquire()
        else:
            await self._free.acquire()

    async def _read(self, statement: str, values: tuple[object, ...]) -> list[Any]:
        if self._idle:
            try:
                return await self._fetch(self._idle.pop(), statement, values, connections.PING_S)
            except connections.DRIVER_ERRORS as error:
                if connections.was_answered(error):
                    raise
                self._drop()  # the others are as old, so probably dead too
        return await self._fetch(await self._connect(), statement, values, None)

    async def _connect(self) -> PoolProxiedConnection:
        try:
            return await self._engine.raw_connection()
        except AsyncAdapt_asyncpg_dbapi.Error as error:  # refused, without SQLAlchemy's DBAPIError
            raise DBAPIError(None, None, error, connection_invalidated=True) from error

    async def _fetch(
        self, connection: PoolProxiedConnection, statement: str, values: tuple[object, ...], limit_s: float | None
    ) -> list[Any]:
        """Fetch rows. `limit_s`: None for the connection's own limit."""
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
        """Return idle connections to the engine's pool."""
        while self._idle:
            await greenlet_spawn(self._idle.pop().close)

"""The database's cost of some work: seconds, and pages touched, which do not depend on other load."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import asyncpg

T = TypeVar("T")


@dataclass(frozen=True)
class Cost:
    """`buffers` are pages of 8 kB read, `wal` bytes of write-ahead log; each divided by `per`."""

    microseconds: float
    buffers: float
    wal: float
    per: int


class Meter:
    """Read pg_stat_statements over its own connection. Use one at a time: it counts concurrent work too."""

    def __init__(self, connection: asyncpg.Connection, *, counts: bool) -> None:
        self._connection = connection
        self._counts = counts

    async def cost(self, work: Callable[[], Awaitable[T]], *, per: int = 1) -> tuple[Cost, T]:
        if self._counts:
            await self._connection.execute("SELECT pg_stat_statements_reset()")
        began = time.perf_counter()
        done = await work()
        seconds = time.perf_counter() - began
        buffers, wal = await self._counted()
        return Cost(seconds * 1e6 / per, buffers / per, wal / per, per), done

    async def _counted(self) -> tuple[int, int]:
        if not self._counts:
            return 0, 0
        row = await self._connection.fetchrow("""
            SELECT coalesce(sum(shared_blks_hit + shared_blks_read), 0)::bigint, coalesce(sum(wal_bytes), 0)::bigint
            FROM pg_stat_statements
            WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND query NOT LIKE '%pg_stat_statements%' AND query NOT ILIKE 'VACUUM%'
        """)
        return row[0], row[1]

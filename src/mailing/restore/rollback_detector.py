"""Detect that the database rolled back to an earlier state while a process was connected to it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from mailing.database.errors import transient
from mailing.observability.log import get

logger = get(__name__)

CHECK_INTERVAL_S = 1.0
WARNING_INTERVAL_S = 60.0

# Compares the flushed end of the write-ahead log: a crash may take the rest without losing anything committed.
_CHECK = """
    WITH behind AS (
        UPDATE installation SET database_identity = 'restored'
        WHERE database_identity = database_identity() AND database_identity = $1
          AND pg_current_wal_flush_lsn() < CAST($2::text AS pg_lsn)
        RETURNING true
    ), recorded AS (
        INSERT INTO event (kind, actor) SELECT 'database.rolled_back', $3 FROM behind
    )
    SELECT database_identity(), pg_current_wal_flush_lsn()::text, EXISTS (SELECT FROM behind),
        database_identity <> database_identity()
    FROM installation
"""


class RollbackDetector:
    """Remember the last seen end of the write-ahead log, and mark the database as restored if the log ends before it.

    A data directory that was copied back has the same cluster, timeline and OIDs as before; only its log is shorter.
    A process that was not running before the copy has nothing to compare, so this is a safety net, not a guarantee.
    """

    def __init__(self, *, by: str) -> None:
        self._by = by
        self._identity, self._lsn = "", "0/0"
        self._warned_at = -WARNING_INTERVAL_S

    def on_connect(self, connection: Any, _record: object) -> None:  # noqa: ANN401 - SQLAlchemy's adapter of the driver's
        """Check each new connection before it is used.

        Files are copied back only while the server, and so every old connection, is down.
        """
        connection.run_async(self._check)

    async def run(self, engine: AsyncEngine) -> None:
        """Check every second, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL_S)
            try:
                async with engine.connect() as connection:
                    await self._check((await connection.get_raw_connection()).driver_connection)
            except transient():
                continue

    async def _check(self, connection: Any) -> None:  # noqa: ANN401 - asyncpg ships no types
        try:
            found = await connection.fetchrow(_CHECK, self._identity, self._lsn, self._by)
        except asyncpg.PostgresError:
            return  # another version's schema or a standby: other checks report those
        self._identity, self._lsn, is_behind, is_restored = found
        if is_behind:
            logger.error("database rolled back to an earlier state; sending is disabled")
        if is_behind or is_restored:
            self._warn()

    def _warn(self) -> None:
        if time.monotonic() - self._warned_at >= WARNING_INTERVAL_S:
            self._warned_at = time.monotonic()
            logger.warning("restored database: nothing is sent", remedy="run mailing resume-after-restore")


@asynccontextmanager
async def detect_rollback(engine: AsyncEngine, *others: AsyncEngine, by: str) -> AsyncIterator[None]:
    """Run a detector while the block lasts, for engines that all belong to one database.

    `by` is the kind of process, `api` or `worker`: the actor of the event.
    """
    detector = RollbackDetector(by=by)
    for each in (engine, *others):
        event.listen(each.sync_engine, "connect", detector.on_connect)
    task = asyncio.create_task(detector.run(engine))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})

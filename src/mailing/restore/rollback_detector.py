"""What a running process remembers of its database, and says about it."""

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

LOOK_EVERY_S = 1.0
WARN_EVERY_S = 60.0

# The flushed end of the log only: the rest a crash may take, without anything committed being lost.
_LOOK = """
    WITH behind AS (
        UPDATE installation SET database_identity = 'set aside'
        WHERE database_identity = database_identity() AND database_identity = $1
          AND pg_current_wal_flush_lsn() < CAST($2::text AS pg_lsn)
        RETURNING true
    ), noted AS (
        INSERT INTO event (kind, actor) SELECT 'database.set_aside', $3 FROM behind
    )
    SELECT database_identity(), pg_current_wal_flush_lsn()::text, EXISTS (SELECT FROM behind),
        database_identity <> database_identity()
    FROM installation
"""


class Lookout:
    """Remembers the end of the database's log as this process saw it last.

    A data directory that was copied back looks like itself: the same cluster, timeline and oids. But its log ends
    before what was seen of it, and then it is set aside as a restored one. A process that was not there before
    remembers nothing: this is a net, and no proof.
    """

    def __init__(self, *, by: str) -> None:
        self._by = by
        self._home, self._seen = "", "0/0"
        self._warned_at = -WARN_EVERY_S

    def connected(self, connection: Any, _record: object) -> None:  # noqa: ANN401 - SQLAlchemy's face of the driver's
        """A new connection is looked at before it is used: files come back only while the server, and so every old
        connection, is down.
        """
        connection.run_async(self._look)

    async def go_on(self, engine: AsyncEngine) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                async with engine.connect() as connection:
                    await self._look((await connection.get_raw_connection()).driver_connection)
            except transient():
                continue

    async def _look(self, connection: Any) -> None:  # noqa: ANN401 - asyncpg ships no types
        try:
            found = await connection.fetchrow(_LOOK, self._home, self._seen, self._by)
        except asyncpg.PostgresError:
            return  # another schema, or a standby: not for us to judge
        self._home, self._seen, is_behind, is_restored = found
        if is_behind:
            logger.error("the database has lost what was seen of it: files were copied back, it is set aside")
        if is_behind or is_restored:
            self._warn()

    def _warn(self) -> None:
        if time.monotonic() - self._warned_at >= WARN_EVERY_S:
            self._warned_at = time.monotonic()
            logger.warning("restored database: nothing is sent", remedy="run mailing resume-after-restore")


@asynccontextmanager
async def looking_out(engine: AsyncEngine, *others: AsyncEngine, by: str) -> AsyncIterator[None]:
    """All are of one database. `by` is the kind of process: api or worker."""
    lookout = Lookout(by=by)
    for each in (engine, *others):
        event.listen(each.sync_engine, "connect", lookout.connected)
    task = asyncio.create_task(lookout.go_on(engine))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})

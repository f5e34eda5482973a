"""One size, from the import to the retention: the cost of each step for a message, and of each page read."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg

from bench.growth.meter import Cost, Meter
from bench.growth.pages import Reading, readings
from bench.growth.work import SMALL, SMALL_CLIENTS, TENTH, Sender, add_clients, add_mailing
from mailing.database import engine as engine_
from mailing.database.engine import Sessions, create_engine, transaction
from mailing.database.read_pool import ReadPool
from mailing.messages.after_restore import MessageSlice
from mailing.messages.redaction import redact_slice
from mailing.messages.states import MessageStatus
from mailing.sending.plan import plan_mailing

SAMPLE = 20_000
ROUNDS = 5
LEFT = 5000
MAX_UNDER_SNAPSHOT = 1_000_000
MIDDLE_BATCH = 5000  # between the first and the last sample, messages are sent in larger batches


@dataclass
class Scenario:
    """`costs` are in the order of measurement."""

    size: int
    url: str
    counts: bool
    held_s: float
    fillfactor: int | None
    costs: dict[str, Cost] = field(default_factory=dict)

    async def run(self) -> None:
        engine = create_engine(self.url, application="bench", pool_size=5, limit_s=900)
        connection = await asyncpg.connect(self.url)
        self._sessions, self._connection = engine_.sessions(engine), connection
        self._reads = ReadPool(engine)
        self._meter = Meter(connection, counts=self.counts)
        try:
            if self.fillfactor:
                await connection.execute(f"ALTER TABLE message SET (fillfactor = {self.fillfactor})")
            await add_clients(self._sessions, self.size)
            await connection.execute("VACUUM ANALYZE client")
            kept = await self._big_mailing()
            await connection.execute("VACUUM ANALYZE")  # the state that autovacuum leaves
            await self._read("", kept)
            await self._small_mailing("small, beside the kept: ")
            async with self._snapshot():
                await self._under_snapshot()
            await self._retention(kept)
        finally:
            await connection.close()
            await engine.dispose()

    async def _big_mailing(self) -> int:
        mailing_id = await add_mailing(self._sessions)
        await self._note("fan-out", lambda: plan_mailing(self._sessions, mailing_id), per=self.size)
        await self._send(mailing_id, self.size, "")
        await self._print_sizes()
        return mailing_id

    async def _print_sizes(self) -> None:
        """Print bytes per message, of the table and of its indexes."""
        row = await self._connection.fetchrow("SELECT pg_table_size('message'), pg_indexes_size('message')")
        table, indexes = (round(size / self.size) for size in row)
        print(f"  a message takes {table} bytes of the table and {indexes} of its indexes", flush=True)

    async def _send(self, mailing_id: int, size: int, prefix: str) -> None:
        sender, sample = Sender(self._sessions, mailing_id), min(SAMPLE, size // 2)
        await self._note(f"{prefix}claim and record, the first", lambda: sender.send(sample), per=sample)
        await sender.send(size - 2 * sample, batch=MIDDLE_BATCH)
        await self._note(f"{prefix}claim and record, the last", lambda: sender.send(sample), per=sample)

    async def _read(self, prefix: str, mailing_id: int) -> None:
        for name, reading in readings(mailing_id, self._reads, deep=self.size - 100).items():
            await self._note(prefix + name, _in_transaction(self._sessions, reading))

    async def _small_mailing(self, prefix: str) -> None:
        mailing_id, size = await add_mailing(self._sessions, tags=(SMALL,)), min(self.size, SMALL_CLIENTS)
        await self._note(f"{prefix}fan-out", lambda: plan_mailing(self._sessions, mailing_id), per=size)
        await self._send(mailing_id, size, prefix)

    async def _under_snapshot(self) -> None:
        """Send a second mailing to all clients while no dead row can be removed. Part of it stays unsent.

        Beside ten million, a tenth of the clients is enough: it takes the ten minutes for which the snapshot is held.
        """
        began, prefix = time.monotonic(), "under a snapshot: "
        is_for_all = self.size <= MAX_UNDER_SNAPSHOT
        mailing_id = await add_mailing(self._sessions, tags=() if is_for_all else TENTH)
        await plan_mailing(self._sessions, mailing_id)
        planned = await self._connection.fetchval(
            "SELECT planned FROM mailing_counts WHERE mailing_id = $1", mailing_id
        )
        await self._send(mailing_id, planned - min(LEFT, planned // 2), prefix)
        await self._read(prefix, mailing_id)
        await asyncio.sleep(max(0, self.held_s - (time.monotonic() - began)))
        print(f"  a snapshot was held for {time.monotonic() - began:.0f} s", flush=True)

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[None]:
        connection = await asyncpg.connect(self.url)
        transaction = connection.transaction(isolation="repeatable_read", readonly=True)
        await transaction.start()
        await connection.execute("SELECT FROM mailing")
        try:
            yield
        finally:
            await connection.close()

    async def _retention(self, mailing_id: int) -> None:
        """Redact a slice at the start and one at the end of the kept mailing."""
        await self._connection.execute("VACUUM message, attempt")
        count = min(5000, self.size // 4)
        for place, after in (("first", 0), ("last", self.size - count)):
            part = MessageSlice(mailing_id, MessageStatus.sent, after=after, count=count)
            await self._note(
                f"retention, the {place} slice", _in_transaction(self._sessions, _blanking(part)), per=count
            )

    async def _note(self, name: str, work: Callable[[], object], *, per: int = 1) -> None:
        """Measure reads several times: the first warms up, the median counts."""
        rounds = 1 if per > 1 else ROUNDS
        found = [(await self._meter.cost(work, per=per))[0] for _ in range(rounds)]  # type: ignore[arg-type]
        seconds = statistics.median(cost.microseconds for cost in found)
        last = found[-1]
        self.costs[name] = Cost(seconds, last.buffers, last.wal, last.per)
        print(f"  {name}: {seconds:,.0f} us, {last.buffers:,.1f} pages, {last.wal:,.0f} bytes of log", flush=True)


def _blanking(part: MessageSlice) -> Reading:
    return lambda session: redact_slice(session, part)


def _in_transaction(sessions: Sessions, reading: Reading) -> Callable[[], object]:
    async def read() -> None:
        async with transaction(sessions) as session:
            await reading(session)

    return read

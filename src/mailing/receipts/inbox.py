"""Group commit: receipts that come one by one are stored many at a time, and each is answered after its commit."""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from mailing.database.engine import Sessions, transaction
from mailing.database.errors import transient
from mailing.errors import Unavailable
from mailing.observability import failures
from mailing.observability.counters import WorkerCounters
from mailing.observability.log import get
from mailing.receipts import counters as counted
from mailing.receipts.repository import NewReceipt, Stored, store

logger = get(__name__)

BATCH: Final = 500
GATHER_S: Final = 0.1
MAX_WAITING: Final = 5_000  # receipts of one process that are not stored yet

BUSY = "Too many receipts are waiting. Try again in a few seconds."
AWAY = "The database is unavailable. Try again in a few seconds."


class _Delivery(NamedTuple):
    """The receipts of one request, and what its answer waits for."""

    receipts: Sequence[NewReceipt]
    stored: asyncio.Future[None]


class Inbox:
    """The receipts of one process that wait to be stored. `run` it beside the server."""

    def __init__(self, sessions: Sessions, counters: WorkerCounters) -> None:
        self._sessions = sessions
        self._counters = counters
        self._waiting: deque[_Delivery] = deque()
        self._count = 0  # receipts in `_waiting` and in the batch that is being stored
        self._arrived = asyncio.Event()
        self._enough = asyncio.Event()

    async def put(self, receipts: Sequence[NewReceipt]) -> None:
        """Return once they are stored. Raise Unavailable if they are not, and never will be."""
        if not receipts:
            return
        if self._count + len(receipts) > MAX_WAITING:
            raise Unavailable(BUSY)
        delivery = _Delivery(receipts, asyncio.get_running_loop().create_future())
        self._waiting.append(delivery)
        self._count += len(receipts)
        self._arrived.set()
        if self._count >= BATCH:
            self._enough.set()
        await delivery.stored

    async def run(self) -> None:
        """Store batches until cancelled. What is waiting then is refused."""
        try:
            while True:
                await self._arrived.wait()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._enough.wait(), GATHER_S)
                await self._store(self._next_batch())
        finally:
            self._refuse(self._waiting)

    def _next_batch(self) -> list[_Delivery]:
        batch, count = [self._waiting.popleft()], 0
        while self._waiting and (count := count + len(batch[-1].receipts)) < BATCH:
            batch.append(self._waiting.popleft())
        if not self._waiting:
            self._arrived.clear()
        if sum(len(delivery.receipts) for delivery in self._waiting) < BATCH:
            self._enough.clear()
        return batch

    async def _store(self, batch: Sequence[_Delivery]) -> None:
        """Store a batch; one by one if the database refuses it, so that one bad receipt refuses no other."""
        try:
            await self._commit(batch)
        except transient() as error:
            failures.log(logger, "receipts not stored", error, receipts=_count(batch))
            self._refuse(batch)
        except Exception as error:  # noqa: BLE001 - logged
            if len(batch) > 1:
                for delivery in batch:
                    await self._store([delivery])
                return
            failures.log(logger, "receipt refused", error)
            self._refuse(batch)
        except asyncio.CancelledError:
            self._refuse(batch)
            raise

    async def _commit(self, batch: Sequence[_Delivery]) -> None:
        receipts = [receipt for delivery in batch for receipt in delivery.receipts]
        async with transaction(self._sessions) as session:
            stored = await store(session, receipts)
        _observe(self._counters, stored, received=len(receipts))
        for delivery in batch:
            self._count -= len(delivery.receipts)
            if not delivery.stored.done():  # its connection may be gone
                delivery.stored.set_result(None)

    def _refuse(self, batch: Sequence[_Delivery] | deque[_Delivery]) -> None:
        for delivery in batch:
            self._count -= len(delivery.receipts)
            if not delivery.stored.done():
                delivery.stored.set_exception(Unavailable(AWAY))


def _count(batch: Sequence[_Delivery]) -> int:
    return sum(len(delivery.receipts) for delivery in batch)


def _observe(counters: WorkerCounters, stored: Stored, *, received: int) -> None:
    new = {state: getattr(stored, state) for state in ("accepted", "undelivered", "delivered")}
    others = {"unknown": stored.unknown, "contradiction": stored.contradiction}
    stale = received - sum(new.values()) - stored.unknown
    for result, count in {**new, **others, "stale": stale}.items():
        counters.add(counted.RECEIPTS, result, value=count)
    for delay_s in stored.delays_s:
        counted.observe_delay(counters, delay_s)

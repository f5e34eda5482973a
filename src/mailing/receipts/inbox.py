"""Group commit: receipts of separate requests are stored together, and each request is answered after the commit."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from mailing.database.errors import transient
from mailing.database.read_pool import ReadPool
from mailing.errors import Unavailable
from mailing.gateway.providers.receipt import Receipt
from mailing.observability import failures
from mailing.observability.counters import WorkerCounters
from mailing.observability.log import get
from mailing.receipts import counters as counted
from mailing.receipts.repository import Stored, store

logger = get(__name__)

BATCH: Final = 500
PAUSE_S: Final = 0.003
MAX_GATHER_S: Final = 0.1
MAX_WAITING: Final = 5_000  # receipts of one process that are not stored yet

BUSY = "Too many receipts are waiting. Try again in a few seconds."
AWAY = "The database is unavailable. Try again in a few seconds."


class _Delivery(NamedTuple):
    """The receipts of one request, and what its answer waits for."""

    receipts: Sequence[Receipt]
    stored: asyncio.Future[None]


class Inbox:
    """The receipts of one process that wait to be stored. `run` it beside the server."""

    def __init__(self, pool: ReadPool, counters: WorkerCounters) -> None:
        self._pool = pool
        self._counters = counters
        self._waiting: deque[_Delivery] = deque()
        self._count = 0  # receipts in `_waiting` and in the batch that is being stored
        self._arrived = asyncio.Event()

    def put(self, receipts: Sequence[Receipt]) -> asyncio.Future[None]:
        """Return a future that is done once they are stored. It raises Unavailable if they will never be stored."""
        delivery = _Delivery(receipts, asyncio.get_running_loop().create_future())
        if not receipts:
            delivery.stored.set_result(None)
        elif self._count + len(receipts) > MAX_WAITING:
            delivery.stored.set_exception(Unavailable(BUSY))
        else:
            self._waiting.append(delivery)
            self._count += len(receipts)
            self._arrived.set()
        return delivery.stored

    async def run(self) -> None:
        """Store batches until cancelled. What is waiting then is refused."""
        try:
            while True:
                await self._arrived.wait()
                await self._gather()
                await self._store(self._next_batch())
        finally:
            self._refuse(self._waiting)

    async def _gather(self) -> None:
        """Return when none has come for PAUSE_S, when BATCH wait, or after MAX_GATHER_S.

        A provider that waits for an answer before it sends more is answered at once. If it does not wait, a batch takes
        all that comes: large batches cost the database a third of small ones.
        """
        ends, seen = time.monotonic() + MAX_GATHER_S, 0
        while seen < self._count < BATCH and time.monotonic() < ends:
            seen = self._count
            await asyncio.sleep(PAUSE_S)

    def _next_batch(self) -> list[_Delivery]:
        batch, count = [self._waiting.popleft()], 0
        while self._waiting and (count := count + len(batch[-1].receipts)) < BATCH:
            batch.append(self._waiting.popleft())
        if not self._waiting:
            self._arrived.clear()
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
        stored = await store(self._pool, receipts)
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
    counted.observe_delays(counters, stored.delays_s)

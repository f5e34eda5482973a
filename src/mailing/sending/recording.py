"""Record results: in batches, and one by one where a row would hold its batch up."""

import asyncio
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from mailing import failpoints
from mailing.database.engine import Sessions, autocommit, in_transaction, transaction
from mailing.database.errors import DATABASE_ERRORS, cause, sqlstate, transient
from mailing.messages.results import Called, CallResult, Recorded, needs_transaction, park, record
from mailing.observability import failures, tracing
from mailing.observability.counters import STALE_RESULTS, WorkerCounters
from mailing.observability.log import get, increment

logger = get(__name__)

BATCH: Final = 500
RETRY_EVERY_S: Final = 0.5
SHUTDOWN_S: Final = 3.0  # for deferred results, when the process ends
SHUTDOWN_OUTAGE_S: Final = 30.0  # how long a stopping process waits for the database
# SQLSTATEs of a deadlock, a serialization failure, a lock or a statement that took too long: transient, but a single
# row may be the cause.
ROW_SQLSTATES: Final = ("40", "55P03", "57014")
PARK_AFTER: Final = 3  # refusals
GIVE_UP_AFTER: Final = 60  # refusals
REFUSED_RETRY_S: Final = 5.0


class PlanVersion(NamedTuple):
    """The revision of a mailing's plan under which results were decided."""

    mailing_id: int
    revision: int


@dataclass
class DeferredResult:
    """A result that could not be recorded with its batch: its message is locked, or the database refuses it."""

    plan: PlanVersion
    result: CallResult
    refusals: int = 0
    retry_at: float = 0.0


class ResultRecorder:
    """Records the results of one process. `on_recorded` gets the number of results recorded or given up.

    A result whose message is locked, or is refused by the database, is deferred to `running`, which outlives the send
    job: such a row delays neither the others of its batch nor its mailing.
    """

    def __init__(
        self,
        sessions: Sessions,
        counters: WorkerCounters,
        stopping: asyncio.Event,
        *,
        on_recorded: Callable[[int], None],
    ) -> None:
        self._sessions = sessions
        self._counters = counters
        self._stopping = stopping
        self._on_recorded = on_recorded
        self._deferred: list[DeferredResult] = []
        self._give_up_at = float("inf")

    async def record(self, plan: PlanVersion, results: Sequence[CallResult]) -> None:
        """Return when each result is recorded or deferred.

        While the database is away this keeps trying. There is no hurry: an expired lease takes no acceptance back, and
        the claim budget bounds how many results wait.
        """
        todo = deque([results])
        while todo:
            batch = todo.popleft()
            try:
                recorded = await self._store(plan, batch)
            except transient() as error:
                failures.log(logger, "recording failed", error, mailing_id=plan.mailing_id)
                if self._gives_up():
                    self._on_recorded(sum(map(len, (batch, *todo))))
                    return
                split = sqlstate(error).startswith(ROW_SQLSTATES)
                todo.extendleft(self._split(plan, batch, refusals=0) if split else [batch])
                await asyncio.sleep(RETRY_EVERY_S)
            except Exception as error:  # noqa: BLE001 - logged once the refused result is alone
                if len(batch) == 1:
                    failures.log(logger, "result refused", error, message_id=batch[0].message.id)
                todo.extendleft(self._split(plan, batch, refusals=1))
            else:
                self._defer_locked(plan, batch, recorded)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Retry deferred results until the block ends, and for SHUTDOWN_S afterwards.

        The sweep finds the messages of those that are still not recorded, once their leases have expired.
        """
        over = asyncio.Event()
        task = asyncio.create_task(self._retry_deferred(over))
        try:
            yield
        finally:
            over.set()
            await asyncio.wait({task}, timeout=SHUTDOWN_S)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _retry_deferred(self, over: asyncio.Event) -> None:
        while self._deferred or not over.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), RETRY_EVERY_S)
            if over.is_set() and self._deferred:
                await asyncio.sleep(RETRY_EVERY_S)
            await self._retry_due()

    async def _store(self, plan: PlanVersion, batch: Sequence[CallResult]) -> Recorded:
        with tracing.step("record") as span:
            span.set(messages=len(batch))
            opened = transaction if needs_transaction(batch) else autocommit
            async with opened(self._sessions) as session:
                recorded = await record(session, batch, mailing_id=plan.mailing_id, revision=plan.revision)
        failpoints.hit("record.after")
        stored = len(batch) - len(recorded.locked)
        self._on_recorded(stored)
        increment(recorded=recorded.moved, **_outcomes(batch, skip=set(recorded.locked)))
        if stale := stored - recorded.moved:
            self._counters.add(STALE_RESULTS, value=stale)
            logger.warning("leases lost", mailing_id=plan.mailing_id, messages=stale)
        return recorded

    def _defer_locked(self, plan: PlanVersion, batch: Sequence[CallResult], recorded: Recorded) -> None:
        if recorded.locked:
            locked = set(recorded.locked)
            self._deferred += [DeferredResult(plan, result) for result in batch if result.message.id in locked]

    def _split(self, plan: PlanVersion, batch: Sequence[CallResult], *, refusals: int) -> list[Sequence[CallResult]]:
        """Halve the batch, until the result at fault is alone and is deferred."""
        if len(batch) == 1:
            self._deferred.append(DeferredResult(plan, batch[0], refusals, time.monotonic() + RETRY_EVERY_S))
            return []
        half = len(batch) // 2
        return [batch[:half], batch[half:]]

    async def _retry_due(self) -> None:
        now = time.monotonic()
        due = [each for each in self._deferred if each.retry_at <= now]
        self._deferred = [each for each in self._deferred if each.retry_at > now]
        locked: dict[PlanVersion, list[CallResult]] = defaultdict(list)
        for each in due:
            if each.refusals:
                await self._retry_refused(each)
            else:
                locked[each.plan].append(each.result)
        for plan, results in locked.items():
            for first in range(0, len(results), BATCH):
                await self.record(plan, results[first : first + BATCH])

    async def _retry_refused(self, deferred: DeferredResult) -> None:
        try:
            recorded = await self._store(deferred.plan, [deferred.result])
        except transient():
            self._deferred.append(deferred)
        except Exception as error:  # noqa: BLE001 - logged when it was refused first
            deferred.refusals += 1
            await self._defer_or_give_up(deferred, type(cause(error)).__name__)
        else:
            self._defer_locked(deferred.plan, [deferred.result], recorded)

    async def _defer_or_give_up(self, deferred: DeferredResult, error: str) -> None:
        """Park the message as unknown first: a call that can't be recorded must not be repeated at each lease's end.

        An acceptance that can be recorded later still ends the message as sent.
        """
        message, called = deferred.result.message, isinstance(deferred.result.call, Called)
        if called and deferred.refusals == PARK_AFTER:
            with suppress(*DATABASE_ERRORS):
                await in_transaction(self._sessions, park, message.id, message.claim_no)
        if deferred.refusals >= (GIVE_UP_AFTER if called else PARK_AFTER):
            logger.error("result given up", mailing_id=deferred.plan.mailing_id, message_id=message.id, error=error)
            self._on_recorded(1)
            return
        delay_s = RETRY_EVERY_S if deferred.refusals < PARK_AFTER else REFUSED_RETRY_S
        deferred.retry_at = time.monotonic() + delay_s
        self._deferred.append(deferred)

    def _gives_up(self) -> bool:
        if not self._stopping.is_set():
            return False
        self._give_up_at = min(self._give_up_at, time.monotonic() + SHUTDOWN_OUTAGE_S)
        return time.monotonic() >= self._give_up_at


def _outcomes(batch: Sequence[CallResult], *, skip: set[int]) -> Counter[str]:
    return Counter(
        result.call.answer.outcome.value
        for result in batch
        if isinstance(result.call, Called) and result.message.id not in skip
    )

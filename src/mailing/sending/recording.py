"""Results on their way into the database: in bulk, and by themselves where a row would hold its batch up."""

import asyncio
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from mailing import failpoints
from mailing.database.engine import Sessions, transaction
from mailing.database.errors import DATABASE_ERRORS, sqlstate, transient
from mailing.messages.results import CallResult, Recorded, park, record
from mailing.observability import failures, tracing
from mailing.observability.counters import STALE_RESULTS, WorkerCounters
from mailing.observability.log import get, increment

logger = get(__name__)

BATCH: Final = 500
TRY_EVERY_S: Final = 0.5
LAST_S: Final = 3.0  # for what is left when the process ends
AWAY_S: Final = 30.0  # how long a process that shall end waits for the database
# Deadlock, serialization, a lock or a statement that took too long: transient, but perhaps for one row's sake.
OF_A_ROW: Final = ("40", "55P03", "57014")
PARKED_AFTER: Final = 3  # refusals
GIVEN_UP_AFTER: Final = 60  # refusals
REFUSED_EVERY_S: Final = 5.0


class Decided(NamedTuple):
    """Under which revision of which mailing's plan."""

    mailing_id: int
    revision: int


@dataclass
class Left:
    """A result that could not be stored with its batch: its message is locked, or has refused it so often."""

    decided: Decided
    result: CallResult
    refusals: int = 0
    again_at: float = 0.0


class Recording:
    """Of one process. `settled` is told how many results are stored or given up.

    A result whose message is locked, or refuses it, is left to `keeping`, which outlives the run: such a row holds up
    neither the others of its batch nor its mailing.
    """

    def __init__(
        self, sessions: Sessions, tallies: WorkerCounters, stopping: asyncio.Event, *, settled: Callable[[int], None]
    ) -> None:
        self._sessions = sessions
        self._tallies = tallies
        self._stopping = stopping
        self._settled = settled
        self._left: list[Left] = []
        self._gives_up_at = float("inf")

    async def record(self, decided: Decided, results: Sequence[CallResult]) -> None:
        """Returns when each is stored or left. While the database is away it keeps trying: there is no hurry, for a
        lease that runs out takes no acceptance back, and the capacity bounds what gathers meanwhile.
        """
        todo = deque([results])
        while todo:
            batch = todo.popleft()
            try:
                recorded = await self._store(decided, batch)
            except transient() as error:
                failures.log(logger, "recording failed", error, mailing_id=decided.mailing_id)
                if self._gives_up():
                    self._settled(sum(map(len, (batch, *todo))))
                    return
                apart = sqlstate(error).startswith(OF_A_ROW)
                todo.extendleft(self._divided(decided, batch, refusals=0) if apart else [batch])
                await asyncio.sleep(TRY_EVERY_S)
            except Exception as error:  # noqa: BLE001 - told when it stands alone
                if len(batch) == 1:
                    failures.log(logger, "result refused", error, message_id=batch[0].message.id)
                todo.extendleft(self._divided(decided, batch, refusals=1))
            else:
                self._leave_locked(decided, batch, recorded)

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        """What is left is tried again and again meanwhile, and for LAST_S at the end: what can't be stored by then is
        found by the sweep when its lease has run out.
        """
        over = asyncio.Event()
        task = asyncio.create_task(self._keep(over))
        try:
            yield
        finally:
            over.set()
            await asyncio.wait({task}, timeout=LAST_S)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _keep(self, over: asyncio.Event) -> None:
        while self._left or not over.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), TRY_EVERY_S)
            if over.is_set() and self._left:
                await asyncio.sleep(TRY_EVERY_S)
            await self._try_left()

    async def _store(self, decided: Decided, batch: Sequence[CallResult]) -> Recorded:
        mailing_id, revision = decided
        with tracing.step("record") as span:
            span.set(messages=len(batch))
            async with transaction(self._sessions) as session:
                recorded = await record(session, batch, mailing_id=mailing_id, revision=revision)
                failpoints.hit("record.inside")
        failpoints.hit("record.after")
        stored = len(batch) - len(recorded.locked)
        self._settled(stored)
        locked = set(recorded.locked)
        outcomes = Counter(each.answer.outcome.value for each in batch if each.answer and each.message.id not in locked)
        increment(recorded=recorded.moved, **outcomes)
        if lost := stored - recorded.moved:
            self._tallies.add(STALE_RESULTS, value=lost)
            logger.warning("leases lost", mailing_id=mailing_id, messages=lost)
        return recorded

    def _leave_locked(self, decided: Decided, batch: Sequence[CallResult], recorded: Recorded) -> None:
        if recorded.locked:
            locked = set(recorded.locked)
            self._left += [Left(decided, result) for result in batch if result.message.id in locked]

    def _divided(self, decided: Decided, batch: Sequence[CallResult], *, refusals: int) -> list[Sequence[CallResult]]:
        """In halves, until the one that is at fault stands alone and is left."""
        if len(batch) == 1:
            self._left.append(Left(decided, batch[0], refusals, time.monotonic() + TRY_EVERY_S))
            return []
        half = len(batch) // 2
        return [batch[:half], batch[half:]]

    async def _try_left(self) -> None:
        now = time.monotonic()
        due = [each for each in self._left if each.again_at <= now]
        self._left = [each for each in self._left if each.again_at > now]
        locked: dict[Decided, list[CallResult]] = defaultdict(list)
        for each in due:
            if each.refusals:
                await self._try_alone(each)
            else:
                locked[each.decided].append(each.result)
        for decided, results in locked.items():
            for first in range(0, len(results), BATCH):
                await self.record(decided, results[first : first + BATCH])

    async def _try_alone(self, left: Left) -> None:
        try:
            recorded = await self._store(left.decided, [left.result])
        except transient():
            self._left.append(left)
        except Exception as error:  # noqa: BLE001 - told when it was refused first
            left.refusals += 1
            await self._refused_again(left, type(error).__name__)
        else:
            self._leave_locked(left.decided, [left.result], recorded)

    async def _refused_again(self, left: Left, error: str) -> None:
        """It is parked as unknown: a call that nobody can write down is not repeated every time its lease runs out. An
        acceptance that can be stored later still ends it as sent.
        """
        message, made = left.result.message, left.result.answer is not None
        if made and left.refusals == PARKED_AFTER:
            with suppress(*DATABASE_ERRORS):
                async with transaction(self._sessions) as session:
                    await park(session, message.id, message.number)
        if left.refusals >= (GIVEN_UP_AFTER if made else PARKED_AFTER):
            logger.error("result given up", mailing_id=left.decided.mailing_id, message_id=message.id, error=error)
            self._settled(1)
            return
        left.again_at = time.monotonic() + (TRY_EVERY_S if left.refusals < PARKED_AFTER else REFUSED_EVERY_S)
        self._left.append(left)

    def _gives_up(self) -> bool:
        if not self._stopping.is_set():
            return False
        self._gives_up_at = min(self._gives_up_at, time.monotonic() + AWAY_S)
        return time.monotonic() >= self._gives_up_at

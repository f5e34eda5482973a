"""A mailing's due messages through the gateway: claim a batch, let go of the database, call, record in bulk.

The three go on side by side. Nothing here is needed to be right after a crash: a claim is a lease, and whoever loses
it finds that its results no longer count.
"""

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InternalError
from sqlalchemy.ext.asyncio import AsyncSession

from mailing import crashpoints, queue, tracing
from mailing.db import TROUBLE, DatabaseClock, transaction
from mailing.gateway.gate import Closed, Pass
from mailing.log import count, get
from mailing.mailings.models import Mailing
from mailing.mailings.repository import MailingRepository, database_now, finish, texts
from mailing.mailings.rules import Status
from mailing.mailings.schedule import opening
from mailing.mailings.window import LocalWindow
from mailing.messages.openings import Opening
from mailing.messages.repository import LEASE_S, Claimed, Result, claim, next_due, record, set_aside
from mailing.messages.states import Status as MessageStatus
from mailing.sending.call import Call
from mailing.sending.calls import Calls
from mailing.sending.desk import Desk
from mailing.sending.next_step import Moment, after_call, not_called
from mailing.sending.watch import Watch
from mailing.tallies import GATE_SECONDS, LEASES_LOST, POSTPONED

logger = get(__name__)

BATCH = 500
SLICE_S = 10.0
RECORD_EVERY_S = 0.1
LANES = 32
REFUSED_S = 5.0
REFUSED = (IntegrityError, DataError, InternalError)  # a row is wrong, and stays so however often it is tried


async def send_mailing(desk: Desk, mailing_id: int, lane: int) -> None:
    """Sends until nothing is due, or until other mailings want their turn.

    A lane is one process's share of a mailing: whoever works on lane n offers lane n + 1 as long as there is more
    than it can take, and a process that is at it already passes the lane on a second later.
    """
    if mailing_id in desk.active:
        await _pass_on(desk, mailing_id, lane)
        return
    desk.active.add(mailing_id)
    try:
        while (run := await _begin(desk, mailing_id, lane)) and await run.work():
            if desk.crowded or desk.stopping.is_set() or run.closed:
                break
    finally:
        desk.active.discard(mailing_id)
    if run:
        await _leave(desk, mailing_id, lane, run)


async def _pass_on(desk: Desk, mailing_id: int, lane: int) -> None:
    async with transaction(desk.sessions) as session:
        at = await database_now(session) + timedelta(seconds=1)
        await queue.defer(session, "send_mailing", at=at, mailing_id=mailing_id, lane=lane)


async def _begin(desk: Desk, mailing_id: int, lane: int) -> "Run | None":
    async with transaction(desk.sessions) as session:
        mailing = await _running(session, mailing_id)
        return Run(desk, mailing, await texts(session, mailing_id), lane) if mailing else None


async def _running(session: AsyncSession, mailing_id: int) -> Mailing | None:
    return await MailingRepository(session=session).get_one_or_none(id=mailing_id, status=Status.running)


async def _leave(desk: Desk, mailing_id: int, lane: int, run: "Run") -> None:
    async with transaction(desk.sessions) as session:
        if run.closed:
            if run.closed.until:
                await queue.defer(session, "send_mailing", at=run.closed.until, mailing_id=mailing_id, lane=0)
        elif run.more:
            await queue.defer(session, "send_mailing", mailing_id=mailing_id, lane=lane)
        elif run.next_due:
            await queue.defer(session, "send_mailing", at=run.next_due, mailing_id=mailing_id, lane=0)
        elif await finish(session, mailing_id):
            logger.info("the mailing is finished", mailing_id=mailing_id)


class Run:
    """One slice of one mailing, or several where nobody else wants a turn and the mailing was not edited.

    `more` tells whether messages were left due, `closed` that nothing may be sent, `next_due` when to come back.
    """

    def __init__(self, desk: Desk, mailing: Mailing, wordings: dict[int, str], lane: int) -> None:
        self.more = False
        self.closed: Closed | None = None
        self.next_due: datetime | None = None
        self._desk = desk
        self._mailing = mailing
        self._wordings = wordings
        self._lane = lane
        self._offered = False  # the next lane
        self._most = BATCH  # that a claim takes
        self._watch = Watch(desk)
        self._claimed: deque[tuple[Claimed, Calls]] = deque()
        self._callers = 0
        self._results: list[Result] = []
        self._over = asyncio.Event()

    async def work(self) -> bool:
        """Returns `more`."""
        async with asyncio.TaskGroup() as beside:
            beside.create_task(self._record_until_over())
            beside.create_task(self._watch.keep(self._over))
            try:
                async with asyncio.TaskGroup() as calls:
                    self.more = await self._claim_until_dry(calls)
            finally:
                self._over.set()
                while self._claimed:
                    self._over_with(*self._claimed.popleft())
        return self.more

    async def _claim_until_dry(self, calls: asyncio.TaskGroup) -> bool:
        until = time.monotonic() + SLICE_S
        while True:
            room = await self._desk.capacity.take(BATCH)
            claimed: list[Claimed] = []
            try:
                if self._desk.stopping.is_set():
                    return True
                if time.monotonic() >= until:
                    if self._desk.crowded or not await self._is_as_it_was():
                        return True
                    until = time.monotonic() + SLICE_S
                claimed, at = await self._claim_if_open(room)
            except REFUSED as error:
                await self._claim_fewer(error)
                continue
            except TROUBLE as error:  # the calls under way go on, and are recorded when it is back
                logger.warning("claim failed", mailing_id=self._mailing.id, error=type(error).__name__)
                return True
            finally:
                self._desk.capacity.give_back(room - len(claimed))
            if not claimed:
                return False
            self._most = min(2 * self._most, BATCH)
            self._hand_out(claimed, DatabaseClock(claimed[0].claimed_at, at), calls)

    async def _claim_fewer(self, error: DBAPIError) -> None:
        """A row can't be claimed: claims shrink until it stands alone, and then it waits while the others go on."""
        cause = error.orig.__cause__ if error.orig else None  # its words would tell the row, and so the phone
        refusal = getattr(cause, "constraint_name", None) or getattr(cause, "sqlstate", None) or type(error).__name__
        logger.error("claim refused", mailing_id=self._mailing.id, messages=self._most, error=refusal)
        if self._most > 1:
            self._most = self._most // 8 or 1
            return
        try:
            async with transaction(self._desk.sessions) as session:
                await set_aside(session, self._mailing.id, reason=f"it could not be claimed: {refusal}")
        except TROUBLE:
            await asyncio.sleep(REFUSED_S)

    async def _is_as_it_was(self) -> bool:
        """Then the next slice follows at once: a new run would wait until all calls of this one have ended."""
        async with transaction(self._desk.sessions) as session:
            mailing = await _running(session, self._mailing.id)
        return mailing is not None and mailing.revision == self._mailing.revision

    def _hand_out(self, claimed: Sequence[Claimed], clock: DatabaseClock, calls: asyncio.TaskGroup) -> None:
        """To as many callers as there are connections, instead of a task for each message."""
        self._watch.add(claimed)
        batch = Calls(len(claimed), clock)
        self._claimed.extend((message, batch) for message in claimed)
        for _ in range(min(len(self._claimed), self._desk.gateway.concurrency - self._callers)):
            self._callers += 1
            calls.create_task(self._call_until_none_is_left())

    async def _call_until_none_is_left(self) -> None:
        """Side by side with the callers of other mailings: whoever has waited longest for a slot has the next one."""
        while self._claimed:
            async with self._desk.slots:
                if self._claimed:
                    await self._deal_with(*self._claimed.popleft())
        self._callers -= 1

    def _over_with(self, message: Claimed, batch: Calls) -> None:
        """However it ended: what an aborted run went on holding, the process could never claim again."""
        self._watch.remove(message)
        self._desk.capacity.done()
        batch.one_less()

    async def _claim_if_open(self, room: int) -> tuple[list[Claimed], float]:
        match await self._ask(room):
            case Closed() as closed:
                self.closed = closed
                return [], 0.0
            case Pass(count, probe):
                with tracing.step("claim") as span:
                    claimed, at = await self._claim(min(room, count, self._most), probe=probe)
                    span.tell(messages=len(claimed))
                if probe and not claimed:
                    await self._desk.gate.give_probe_back()
                return claimed, at

    async def _ask(self, room: int) -> Pass | Closed:
        waits_since = time.monotonic()
        answer = await self._desk.gate.ask(room)
        self._desk.tallies.add(GATE_SECONDS, "claim", value=time.monotonic() - waits_since)
        return answer

    async def _claim(self, count: int, *, probe: bool) -> tuple[list[Claimed], float]:
        at = time.monotonic()
        crashpoints.reached("claim.before")
        async with transaction(self._desk.sessions) as session:
            claimed = await claim(session, self._mailing.id, count, probe=probe)
            crashpoints.reached("claim.inside")
            if any(message.text_revision not in self._wordings for message in claimed):
                self._wordings = await texts(session, self._mailing.id)  # edited since this slice began
            if not claimed:
                self._come_back(await next_due(session, self._mailing.id))
            elif not self._offered and len(claimed) == count and not probe and self._lane < LANES:
                await queue.defer(session, "send_mailing", mailing_id=self._mailing.id, lane=self._lane + 1)
                self._offered = True
        crashpoints.reached("claim.after")
        return claimed, at

    async def _deal_with(self, message: Claimed, batch: Calls) -> None:
        try:
            result = await self._call(message, batch.clock)
            if result.answer:
                batch.answered(result.answer.outcome.value)
            if result.step.status is MessageStatus.pending:
                self._come_back(result.step.due_at)
                self._desk.tallies.add(POSTPONED, result.step.waiting or "released")
            self._results.append(result)
        finally:
            self._over_with(message, batch)

    async def _call(self, message: Claimed, clock: DatabaseClock) -> Result:
        call = Call(self._desk, self._watch, message, clock)
        answer = await call.make(self._wordings[message.text_revision])
        moment = self._moment(message, clock)
        if answer is None:
            return Result(message=message, step=not_called(message, moment))
        step = after_call(answer, message, self._desk.policy, moment)
        started_at, duration_ms = call.started_at, int(call.lasted_s * 1000)
        return Result(message=message, step=step, answer=answer, started_at=started_at, duration_ms=duration_ms)

    def _moment(self, message: Claimed, clock: DatabaseClock) -> Moment:
        mailing = self._mailing
        opens = partial(_opens, message.timezone, mailing.window, before=mailing.ends_at)
        return Moment(clock.now(), random.random(), opens)  # noqa: S311 - jitter, not a secret

    def _come_back(self, due: datetime | None) -> None:
        if due and (self.next_due is None or due < self.next_due):
            self.next_due = due

    async def _record_until_over(self) -> None:
        """Together what came in RECORD_EVERY_S: a handful at a time would cost a transaction each."""
        over = False
        while not over:
            over = await _happens(self._over, within_s=RECORD_EVERY_S)
            results, self._results = self._results, []
            for first in range(0, len(results), BATCH):
                batch = results[first : first + BATCH]
                with tracing.step("record") as span:
                    span.tell(messages=len(batch))
                    await self._record(batch)

    async def _record(self, batch: Sequence[Result]) -> None:
        """Keeps trying while the database is away, as long as the leases may last."""
        give_up_at = time.monotonic() + LEASE_S
        while True:
            try:
                async with transaction(self._desk.sessions) as session:
                    moved = await record(session, batch, mailing_id=self._mailing.id, revision=self._mailing.revision)
                    crashpoints.reached("record.inside")
            except TROUBLE as error:
                logger.warning("recording failed", mailing_id=self._mailing.id, error=type(error).__name__)
                if time.monotonic() > give_up_at:
                    return
                await asyncio.sleep(0.5)
            else:
                crashpoints.reached("record.after")
                count(recorded=moved, **Counter(result.answer.outcome.value for result in batch if result.answer))
                if moved < len(batch):
                    self._desk.tallies.add(LEASES_LOST, value=len(batch) - moved)
                    logger.warning("leases lost", mailing_id=self._mailing.id, messages=len(batch) - moved)
                return


def _opens(timezone: str, window: LocalWindow | None, not_before: datetime, *, before: datetime) -> Opening:
    return opening(timezone, window, not_before=not_before, before=before)


async def _happens(event: asyncio.Event, *, within_s: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), within_s)
    except TimeoutError:
        return False
    return True

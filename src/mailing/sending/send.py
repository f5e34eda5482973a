"""A mailing's due messages through the gateway: claim a batch, let go of the database, call, record in bulk.

The three go on side by side. Nothing here is needed to be right after a crash: a claim is a lease, and whoever loses
it finds that its results no longer count.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InternalError
from sqlalchemy.ext.asyncio import AsyncSession

from mailing import failpoints
from mailing.database.clock import DatabaseClock
from mailing.database.engine import transaction
from mailing.database.errors import cause, sqlstate, transient
from mailing.gateway.flow_control import Blocked, Permit
from mailing.job_queue.enqueue import CONTINUED, defer
from mailing.mailings.models import Mailing
from mailing.mailings.repository import MailingRepository, database_now, finish, texts
from mailing.mailings.schedule import opening
from mailing.mailings.states import MailingStatus
from mailing.mailings.window import LocalWindow
from mailing.messages.repository import CallResult, ClaimedMessage, claim, next_due, set_aside
from mailing.messages.rescheduling import SendWindow
from mailing.messages.states import MessageStatus
from mailing.observability import tracing
from mailing.observability.counters import GATE_SECONDS, POSTPONED
from mailing.observability.log import get
from mailing.sending.attempt import Attempt
from mailing.sending.batch_span import BatchSpan
from mailing.sending.context import SendContext
from mailing.sending.recording import BATCH, Decided
from mailing.sending.retry_policy import RetryContext, decide, release
from mailing.sending.revalidation import Revalidator

logger = get(__name__)

RECORD_EVERY_S = 0.1
LANES = 32
REFUSED_S = 5.0
REFUSED = (IntegrityError, DataError, InternalError)  # a row is wrong, and stays so however often it is tried


async def send_mailing(desk: SendContext, watch: Revalidator, mailing_id: int, lane: int) -> None:
    """Sends until nothing is due, or until other mailings want their turn.

    A lane is one process's share of a mailing: whoever works on lane n offers lane n + 1 as long as there is more
    than it can take, and a process that is at it already passes the lane on a second later. Where other mailings wait,
    one lane is enough: turns go by mailing.
    """
    if lane and desk.crowded:
        return
    if mailing_id in desk.active:
        await _put_off(desk, mailing_id, lane)
        return
    desk.active.add(mailing_id)
    try:
        while (run := await _begin(desk, watch, mailing_id, lane)) and await run.work():
            if desk.crowded or desk.stopping.is_set() or run.closed:
                break
    finally:
        desk.active.discard(mailing_id)
        woken = mailing_id in desk.again
        desk.again.discard(mailing_id)
    if run:
        run.more |= woken
        await _leave(desk, mailing_id, lane, run)


async def _put_off(desk: SendContext, mailing_id: int, lane: int) -> None:
    """Until the mailing has had its turn here; a lane is for another process in the meantime."""
    if not lane:
        desk.again.add(mailing_id)
        return
    async with transaction(desk.sessions) as session:
        at = await database_now(session) + timedelta(seconds=desk.passed_on_s)
        await _continue(session, mailing_id, lane, at=at)


async def _continue(session: AsyncSession, mailing_id: int, lane: int = 0, *, at: datetime | None = None) -> None:
    """Behind mailings that wait for their first turn."""
    await defer(session, "send_mailing", at=at, priority=CONTINUED, mailing_id=mailing_id, lane=lane)


async def _begin(desk: SendContext, watch: Revalidator, mailing_id: int, lane: int) -> "SendLoop | None":
    async with transaction(desk.sessions) as session:
        mailing = await _running(session, mailing_id)
        return SendLoop(desk, watch, mailing, await texts(session, mailing_id), lane) if mailing else None


async def _running(session: AsyncSession, mailing_id: int) -> Mailing | None:
    return await MailingRepository(session=session).get_one_or_none(id=mailing_id, status=MailingStatus.running)


async def _leave(desk: SendContext, mailing_id: int, lane: int, run: "SendLoop") -> None:
    async with transaction(desk.sessions) as session:
        if run.closed:
            if run.closed.until:
                await _continue(session, mailing_id, at=run.closed.until)
        elif run.more:
            await _continue(session, mailing_id, lane)
        elif run.next_due:
            await _continue(session, mailing_id, at=run.next_due)
        elif await finish(session, mailing_id):
            logger.info("the mailing is finished", mailing_id=mailing_id)


class SendLoop:
    """One slice of one mailing, or several where nobody else wants a turn and the mailing was not edited.

    `more` tells whether messages were left due, `closed` that nothing may be sent, `next_due` when to come back.
    """

    def __init__(
        self, desk: SendContext, watch: Revalidator, mailing: Mailing, wordings: dict[int, str], lane: int
    ) -> None:
        self.more = False
        self.closed: Blocked | None = None
        self.next_due: datetime | None = None
        self._desk = desk
        self._mailing = mailing
        self._wordings = wordings
        self._lane = lane
        self._offered = False  # the next lane
        self._most = BATCH  # that a claim takes
        self._watch = watch
        self._claimed: deque[tuple[ClaimedMessage, BatchSpan]] = deque()
        self._callers = 0
        self._results: list[CallResult] = []
        self._over = asyncio.Event()
        self._failure: Exception | None = None
        self._decided = Decided(mailing.id, mailing.plan_revision)

    async def work(self) -> bool:
        """Returns `more`. What fails unexpectedly is raised when the calls under way have ended and are recorded: were
        they cut off, they would all be repeated.
        """
        async with asyncio.TaskGroup() as beside:
            beside.create_task(self._record_until_over())
            try:
                async with asyncio.TaskGroup() as calls:
                    self.more = await self._claim_until_dry(calls)
            finally:
                self._over.set()
                while self._claimed:
                    self._over_with(*self._claimed.popleft())
        if self._failure:
            raise self._failure
        return self.more

    async def _claim_until_dry(self, calls: asyncio.TaskGroup) -> bool:
        began_at = time.monotonic()
        while not self._failure:
            room = await self._desk.capacity.take(self._mailing.id, BATCH)
            claimed: list[ClaimedMessage] = []
            try:
                if self._desk.stopping.is_set():
                    return True
                if time.monotonic() - began_at >= self._desk.slice_s:
                    if self._desk.crowded or not await self._is_as_it_was():
                        return True
                    began_at = time.monotonic()
                self._desk.again.discard(self._mailing.id)  # what woke it so far is seen by this claim
                claimed, at = await self._claim_if_open(room)
            except transient() as error:  # the calls under way go on, and are recorded when it is back
                logger.warning("claim failed", mailing_id=self._mailing.id, error=type(error).__name__)
                return True
            except REFUSED as error:
                await self._claim_fewer(error)
                continue
            except Exception as error:  # noqa: BLE001 - raised at the end
                self._failure = error
                return True
            finally:
                self._desk.capacity.give_back(self._mailing.id, room - len(claimed))
            if not claimed:
                return False
            self._most = min(2 * self._most, BATCH)
            self._hand_out(claimed, DatabaseClock(claimed[0].claimed_at, at, self._desk.ticks), calls)
        return True

    async def _claim_fewer(self, error: DBAPIError) -> None:
        """A row can't be claimed: claims shrink until it stands alone, and then it waits while the others go on."""
        refusal = getattr(cause(error), "constraint_name", None) or sqlstate(error)  # its words would tell the phone
        logger.error("claim refused", mailing_id=self._mailing.id, messages=self._most, error=refusal)
        if self._most > 1:
            self._most = self._most // 8 or 1
            return
        try:
            async with transaction(self._desk.sessions) as session:
                await set_aside(session, self._mailing.id, reason=f"it could not be claimed: {refusal}")
        except DBAPIError:
            await asyncio.sleep(REFUSED_S)

    async def _is_as_it_was(self) -> bool:
        """Then the next slice follows at once: a new run would wait until all calls of this one have ended."""
        async with transaction(self._desk.sessions) as session:
            mailing = await _running(session, self._mailing.id)
        return mailing is not None and mailing.plan_revision == self._mailing.plan_revision

    def _hand_out(self, claimed: Sequence[ClaimedMessage], clock: DatabaseClock, calls: asyncio.TaskGroup) -> None:
        """To as many callers as there are connections, instead of a task for each message."""
        self._watch.add(claimed)
        batch = BatchSpan(len(claimed), clock)
        self._claimed.extend((message, batch) for message in claimed)
        for _ in range(min(len(self._claimed), self._desk.gateway.concurrency - self._callers)):
            self._callers += 1
            calls.create_task(self._call_until_none_is_left())

    async def _call_until_none_is_left(self) -> None:
        """Side by side with the callers of other mailings."""
        while self._claimed and not self._failure:
            async with self._desk.slots.one(self._mailing.id):
                if self._claimed:
                    await self._deal_with(*self._claimed.popleft())
        self._callers -= 1

    def _over_with(self, message: ClaimedMessage, batch: BatchSpan) -> None:
        """However it ended: what an aborted run went on holding, the process could never claim again."""
        self._watch.remove(message)
        self._desk.capacity.done(self._mailing.id)
        batch.one_less()

    async def _claim_if_open(self, room: int) -> tuple[list[ClaimedMessage], float]:
        match await self._ask(room):
            case Blocked() as closed:
                self.closed = closed
                return [], 0.0
            case Permit(count, probe):
                with tracing.step("claim") as span:
                    claimed, at = await self._claim(min(room, count, self._most), probe=probe)
                    span.tell(messages=len(claimed))
                if probe and not claimed:
                    await self._desk.gate.give_probe_back()
                return claimed, at

    async def _ask(self, room: int) -> Permit | Blocked:
        waits_since = time.monotonic()
        async with self._desk.asking:
            answer = await self._desk.gate.ask(room)
        self._desk.tallies.add(GATE_SECONDS, "claim", value=time.monotonic() - waits_since)
        return answer

    async def _claim(self, count: int, *, probe: bool) -> tuple[list[ClaimedMessage], float]:
        at = self._desk.ticks()
        failpoints.reached("claim.before")
        async with transaction(self._desk.sessions) as session:
            claimed = await claim(session, self._mailing.id, count, probe=probe, lease_s=self._desk.lease_s)
            failpoints.reached("claim.inside")
            if any(message.text_revision not in self._wordings for message in claimed):
                self._wordings = await texts(session, self._mailing.id)  # edited since this slice began
            if not claimed:
                self._come_back(await next_due(session, self._mailing.id))
            elif len(claimed) == count and not probe:
                await self._offer_next_lane(session)
        failpoints.reached("claim.after")
        return claimed, at

    async def _offer_next_lane(self, session: AsyncSession) -> None:
        """Not where other mailings wait: these come first."""
        if self._offered or self._lane == LANES or self._desk.crowded:
            return
        await _continue(session, self._mailing.id, self._lane + 1)
        self._offered = True

    async def _deal_with(self, message: ClaimedMessage, batch: BatchSpan) -> None:
        try:
            result = await self._call(message, batch.clock)
            if result.answer:
                batch.answered(result.answer.outcome.value)
            if result.step.status is MessageStatus.pending:
                self._come_back(result.step.due_at)
                self._desk.tallies.add(POSTPONED, result.step.wait_reason or "released")
            self._results.append(result)
            self._desk.capacity.owe()
        except Exception as error:  # noqa: BLE001 - raised at the end
            self._failure = error
        finally:
            self._over_with(message, batch)

    async def _call(self, message: ClaimedMessage, clock: DatabaseClock) -> CallResult:
        call = Attempt(self._desk, self._watch, message, clock)
        answer = await call.make(self._wordings[message.text_revision])
        moment = self._moment(message, clock)
        if answer is None:
            return CallResult(message=message, step=release(message, moment))
        step = decide(answer, message, self._desk.policy, moment)
        started_at, duration_ms = call.started_at, int(call.lasted_s * 1000)
        return CallResult(message=message, step=step, answer=answer, started_at=started_at, duration_ms=duration_ms)

    def _moment(self, message: ClaimedMessage, clock: DatabaseClock) -> RetryContext:
        mailing = self._mailing
        opens = partial(_opens, message.timezone, mailing.window, before=mailing.ends_at)
        return RetryContext(clock.now(), random.random(), opens)  # noqa: S311 - jitter, not a secret

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
                await self._desk.recording.record(self._decided, results[first : first + BATCH])


def _opens(timezone: str, window: LocalWindow | None, not_before: datetime, *, before: datetime) -> SendWindow:
    return opening(timezone, window, not_before=not_before, before=before)


async def _happens(event: asyncio.Event, *, within_s: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), within_s)
    except TimeoutError:
        return False
    return True

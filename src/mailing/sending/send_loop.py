"""Claim a batch, let go of the database, call the gateway, record the results in bulk. The three run side by side."""

import asyncio
import random
import time
from collections import deque
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import assert_never

from mailing.database.clock import DatabaseClock
from mailing.database.errors import transient
from mailing.gateway.flow_control import Blocked
from mailing.gateway.outcome import Outcome
from mailing.mailings.models import Mailing
from mailing.messages.claim import ClaimedMessage
from mailing.messages.results import Called, CallResult, NotCalled
from mailing.messages.states import MessageStatus
from mailing.observability import failures
from mailing.observability.counters import POSTPONED
from mailing.observability.log import get
from mailing.sending.attempt import Attempt
from mailing.sending.batch_span import BatchSpan
from mailing.sending.claiming import ROW_ERRORS, Batch, Claimer
from mailing.sending.context import SendContext
from mailing.sending.recording import BATCH, PlanVersion
from mailing.sending.retry_policy import RetryContext, accepted, decide, release
from mailing.sending.revalidation import Revalidator

logger = get(__name__)

RECORD_EVERY_S = 0.1


class SendLoop:
    """One slice of one mailing, or several while no other mailing waits and the mailing is not edited.

    `has_more`: messages were left due. `blocked`: nothing may be sent. `next_due`: when to come back.
    """

    def __init__(self, context: SendContext, revalidator: Revalidator, mailing: Mailing, claimer: Claimer) -> None:
        self.has_more = False
        self.next_due: datetime | None = None
        self._context = context
        self._revalidator = revalidator
        self._mailing = mailing
        self._claimer = claimer
        self._claimed: deque[tuple[ClaimedMessage, BatchSpan]] = deque()
        self._callers = 0
        self._results: list[CallResult] = []
        self._calls_ended = False
        self._record_now = asyncio.Event()  # a batch is full, or the calls have ended
        self._failure: Exception | None = None
        self._plan = PlanVersion(mailing.id, mailing.plan_revision)

    @property
    def blocked(self) -> Blocked | None:
        return self._claimer.blocked

    async def run(self) -> bool:
        """Return `has_more`.

        Raise an unexpected failure only after the calls under way have ended and are recorded: were they cut off, they
        would all be repeated.
        """
        async with asyncio.TaskGroup() as recording:
            recording.create_task(self._record_until_calls_end())
            try:
                async with asyncio.TaskGroup() as calls:
                    self.has_more = await self._claim_until_empty(calls)
            finally:
                self._calls_ended = True
                self._record_now.set()
                while self._claimed:
                    self._done_with(*self._claimed.popleft())
        if self._failure:
            raise self._failure
        return self.has_more

    async def _claim_until_empty(self, calls: asyncio.TaskGroup) -> bool:
        """Return whether messages were left due."""
        budget, mailing_id = self._context.claim_budget, self._mailing.id
        slice_began_at = time.monotonic()
        while not self._failure:
            room = await budget.acquire(mailing_id, BATCH)
            batch: Batch | None = None
            try:
                if self._context.stopping.is_set():
                    return True
                if time.monotonic() - slice_began_at >= self._context.slice_s:
                    # The next slice follows at once: a new run would wait until all calls of this one have ended.
                    if self._context.should_yield or not await self._claimer.unchanged():
                        return True
                    slice_began_at = time.monotonic()
                self._context.woken.discard(mailing_id)  # this claim sees what woke the mailing so far
                batch = await self._claimer.claim(room)
            except transient() as error:  # the calls under way go on, and are recorded when the database is back
                failures.log(logger, "claim failed", error, mailing_id=mailing_id)
                return True
            except ROW_ERRORS as error:
                await self._claimer.shrink(error)
                continue
            except Exception as error:  # noqa: BLE001 - raised at the end
                self._failure = error
                return True
            finally:
                budget.end_claim(mailing_id, acquired=room, claimed=len(batch.messages) if batch else 0)
            if batch is None:
                self._note_next_due(self._claimer.next_due)
                return False
            self._dispatch(batch, calls)
        return True

    def _dispatch(self, batch: Batch, calls: asyncio.TaskGroup) -> None:
        """Hand the messages to as many callers as there are connections, instead of a task for each message."""
        self._revalidator.track(batch.messages)
        span = BatchSpan(len(batch.messages), batch.clock)
        self._claimed.extend((message, span) for message in batch.messages)
        for _ in range(min(len(self._claimed), self._context.gateway.concurrency - self._callers)):
            self._callers += 1
            calls.create_task(self._call_until_empty())

    async def _call_until_empty(self) -> None:
        """Call claimed messages in turn with the callers of other mailings."""
        while self._claimed and not self._failure:
            await self._context.call_slots.acquire(self._mailing.id)
            try:
                if self._claimed:
                    await self._process(*self._claimed.popleft())
            finally:
                self._context.call_slots.release(self._mailing.id)
        self._callers -= 1

    async def _process(self, message: ClaimedMessage, span: BatchSpan) -> None:
        try:
            result = await self._call(message, span.clock)
            if isinstance(result.call, Called):
                span.count_outcome(result.call.answer.outcome.value)
            if result.transition.status is MessageStatus.pending:
                self._note_next_due(result.transition.due_at)
                self._context.counters.add(POSTPONED, result.transition.wait_reason or "released")
            self._results.append(result)
            if len(self._results) >= BATCH:
                self._record_now.set()
            self._context.claim_budget.add_unrecorded()
            if message.probe and isinstance(result.call, NotCalled):
                await self._context.flow_control.return_probe()
        except Exception as error:  # noqa: BLE001 - raised at the end
            self._failure = error
        finally:
            self._done_with(message, span)

    def _done_with(self, message: ClaimedMessage, span: BatchSpan) -> None:
        """Free what the message held, however it ended. Otherwise an aborted loop would keep its claim budget."""
        self._revalidator.untrack(message)
        self._context.claim_budget.complete(self._mailing.id)
        span.finished_one()

    async def _call(self, message: ClaimedMessage, clock: DatabaseClock) -> CallResult:
        text = self._claimer.texts[message.text_revision]
        call = await Attempt(self._context, self._revalidator, message, clock).make(text)
        match call:
            case Called(answer) if answer.outcome is Outcome.accepted:  # most: the context of a retry costs 4 us
                transition = accepted(message)
            case Called(answer):
                transition = decide(answer, message, self._context.policy, self._retry_context(message, clock))
            case NotCalled():
                transition = release(message, self._retry_context(message, clock))
            case _:
                assert_never(call)
        return CallResult(message, transition, call)

    def _retry_context(self, message: ClaimedMessage, clock: DatabaseClock) -> RetryContext:
        next_window = partial(self._mailing.next_window, message.timezone)
        return RetryContext(clock.now(), random.random(), next_window)  # noqa: S311 - jitter, not a secret

    def _note_next_due(self, due: datetime | None) -> None:
        if due and (self.next_due is None or due < self.next_due):
            self.next_due = due

    async def _record_until_calls_end(self) -> None:
        """Record full batches at once, and smaller ones every RECORD_EVERY_S: a handful would cost a transaction each.

        Too many results that wait would keep the claim budget from granting a claim.
        """
        ended = False
        while not ended:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._record_now.wait(), RECORD_EVERY_S)
            self._record_now.clear()
            ended = self._calls_ended
            results, self._results = self._results, []
            for first in range(0, len(results), BATCH):
                await self._context.recorder.record(self._plan, results[first : first + BATCH])

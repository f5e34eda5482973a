"""Claim batches of one mailing's due messages, each in one short transaction."""

import asyncio
import time
from datetime import datetime
from typing import NamedTuple

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InternalError
from sqlalchemy.ext.asyncio import AsyncSession

from mailing import failpoints
from mailing.database.clock import DatabaseClock
from mailing.database.engine import in_transaction, transaction
from mailing.database.errors import cause, sqlstate
from mailing.gateway.flow_control import Blocked, Permit
from mailing.job_queue.enqueue import CONTINUED_PRIORITY, defer
from mailing.mailings.models import Mailing
from mailing.mailings.repository import find_mailing, texts
from mailing.mailings.states import MailingStatus
from mailing.messages.claim import ClaimedMessage, claim, explain_empty, postpone_unclaimable, release_with_void_window
from mailing.observability import tracing
from mailing.observability.counters import RATE_LIMIT_WAIT_S
from mailing.observability.log import get
from mailing.sending.context import SendContext
from mailing.sending.local_hours import LocalHours
from mailing.sending.recording import BATCH

logger = get(__name__)

MAX_LANES = 32  # send jobs of one mailing, each on a worker of its own
ROW_ERROR_PAUSE_S = 5.0
ROW_ERRORS = (IntegrityError, DataError, InternalError)  # a row is wrong, and stays so however often it is tried


class Batch(NamedTuple):
    """`clock` was read with the claim."""

    messages: list[ClaimedMessage]
    clock: DatabaseClock


class Claimer:
    """`blocked` says that nothing may be sent, `next_due` when the next message is due; both after an empty claim.

    `texts` are the mailing's texts by revision.
    """

    def __init__(self, context: SendContext, mailing: Mailing, texts: dict[int, str], lane: int) -> None:
        self.blocked: Blocked | None = None
        self.next_due: datetime | None = None
        self.texts = texts
        self._context = context
        self._mailing = mailing
        self._hours = LocalHours(mailing)
        self._lane = lane
        self._lane_offered = False  # the next one
        self._limit = self._asked = BATCH  # of a claim, and what the newest claim asked for
        self._may_call = True  # at the newest claim, if it was empty

    async def claim(self, room: int) -> Batch | None:
        """Claim up to `room` messages. None: nothing is due, or nothing may be sent."""
        while isinstance(admitted := await self._admit(room), Permit):
            batch = await self._claim_admitted(room, admitted)
            if batch or self._may_call:
                return batch
            await self._context.flow_control.refresh()  # this worker did not know yet what forbids calls
        self.blocked = admitted
        return None

    async def _claim_admitted(self, room: int, permit: Permit) -> Batch | None:
        batch = None
        self._asked = min(room, permit.count, self._limit)
        try:
            with tracing.step("claim") as span:
                batch = await self._claim(self._asked, probe=permit.probe)
                span.set(messages=len(batch.messages) if batch else 0)
        finally:
            if permit.probe and not batch:
                await self._context.flow_control.return_probe()
        if batch:
            self._limit = min(2 * self._limit, BATCH)
        return batch

    async def _admit(self, room: int) -> Permit | Blocked:
        waiting_since = time.monotonic()
        async with self._context.admission:
            admitted = await self._context.flow_control.admit(room)
        self._context.counters.add(RATE_LIMIT_WAIT_S, "claim", value=time.monotonic() - waiting_since)
        return admitted

    async def _claim(self, count: int, *, probe: bool) -> Batch | None:
        asked_at = self._context.ticks()
        failpoints.hit("claim.before")
        async with transaction(self._context.sessions) as session:
            claimed = await claim(session, self._mailing.id, count, probe=probe, lease_s=self._context.lease_s)
            failpoints.hit("claim.inside")
            if any(message.text_revision not in self.texts for message in claimed):
                self.texts = await texts(session, self._mailing.id)  # edited since this slice began
            full = len(claimed) == count
            claimed = await self._keep_open(session, claimed)
            if not claimed:
                empty = await explain_empty(session, self._mailing.id, probe=probe)
                self._may_call, self.next_due = empty.may_call, empty.next_due
            elif full and not probe:
                await self._offer_next_lane(session)
        self._context.on_claimed((message.id, message.claim_no) for message in claimed)
        failpoints.hit("claim.after")
        if not claimed:
            return None
        return Batch(claimed, DatabaseClock(claimed[0].claimed_at, asked_at, self._context.ticks))

    async def _keep_open(self, session: AsyncSession, claimed: list[ClaimedMessage]) -> list[ClaimedMessage]:
        """Give back messages whose local hours are closed by this process's time zone rules.

        The others close by those rules, or by the ones they were planned by, whichever is earlier.
        """
        if any(message.plan_revision != self._hours.plan_revision for message in claimed):  # edited, as above
            self._hours = LocalHours(await session.get_one(Mailing, self._mailing.id))
        kept, closed = self._hours.divide(claimed)
        if closed:
            mailing_id = self._mailing.id
            logger.warning("planned by other time zone rules", mailing_id=mailing_id, messages=len(closed))
            await release_with_void_window(session, closed)
            await defer(session, "settle_mailing", mailing_id=mailing_id)
            await defer(session, "send_mailing", mailing_id=mailing_id, lane=0)
        return kept

    async def _offer_next_lane(self, session: AsyncSession) -> None:
        """Enqueue the next lane, but not while other mailings wait: these come first."""
        if self._lane_offered or self._lane == MAX_LANES or self._context.should_yield:
            return
        await enqueue_lane(session, self._mailing.id, self._lane + 1)
        self._lane_offered = True

    async def shrink(self, error: DBAPIError) -> None:
        """Claim fewer messages after a row could not be claimed. Once it is alone, postpone it and claim the others."""
        refusal = getattr(cause(error), "constraint_name", None) or sqlstate(error)  # the message would hold the phone
        logger.error("claim refused", mailing_id=self._mailing.id, messages=self._asked, error=refusal)
        if self._asked > 1:
            self._limit = self._asked // 8 or 1
            return
        try:
            await in_transaction(self._context.sessions, postpone_unclaimable, self._mailing.id, error=refusal)
        except DBAPIError:
            await asyncio.sleep(ROW_ERROR_PAUSE_S)

    async def unchanged(self) -> bool:
        mailing = await in_transaction(self._context.sessions, running_mailing, self._mailing.id)
        return mailing is not None and mailing.plan_revision == self._mailing.plan_revision


async def running_mailing(session: AsyncSession, mailing_id: int) -> Mailing | None:
    mailing = await find_mailing(session, mailing_id)
    return mailing if mailing and mailing.status == MailingStatus.running else None


async def enqueue_lane(session: AsyncSession, mailing_id: int, lane: int = 0, *, at: datetime | None = None) -> None:
    """Enqueue behind the mailings that wait for their first turn."""
    await defer(session, "send_mailing", at=at, priority=CONTINUED_PRIORITY, mailing_id=mailing_id, lane=lane)

"""Plan a mailing: write one message for each client that the filter selects, with its send window."""

import asyncio
import time

from mailing import failpoints
from mailing.database.clock import database_now
from mailing.database.engine import Sessions, analyze_refilled, transaction
from mailing.job_queue.enqueue import defer
from mailing.mailings.models import Mailing
from mailing.mailings.repository import claim_plan, complete_plan, count_planned, heartbeat_plan, lock_plan
from mailing.messages.locks import lock_for_plan
from mailing.messages.planning import Audience, ClientSlice, cancel_unselected, next_slice, plan_new_slice, plan_slice
from mailing.observability.log import get, increment
from mailing.timezones import rules_version

logger = get(__name__)

SLICE = 20_000
PARALLEL_SLICES = 2  # a slice keeps one of PostgreSQL's processors busy; more would take them from the senders
ROUND_S = 0.5  # edits wait until a round has ended, because its slices share the lock of the mailing's row


async def plan_mailing(sessions: Sessions, mailing_id: int) -> None:
    """Start the mailing if its time has come, and bring its messages up to its newest revision.

    It is idempotent: after a crash it starts again and changes only what is not up to date. Sending continues during
    the first plan. A slice is one transaction, 0.2-0.4 s for 20,000 messages.
    """
    async with transaction(sessions) as session:
        if not await claim_plan(session, mailing_id, rules=rules_version()):
            await defer(session, "send_mailing", mailing_id=mailing_id, lane=0)
            return
    async with transaction(sessions) as session:
        mailing = await session.get_one(Mailing, mailing_id)
        is_first = await count_planned(session, mailing_id) == 0
    plan = _Plan(sessions, mailing, is_first=is_first)
    if not await plan.write():
        return
    if mailing.plan_revision > 1:
        await _cancel_unselected(sessions, mailing, plan.audience)
    async with transaction(sessions) as session:
        if not await complete_plan(session, mailing_id, mailing.plan_revision):
            return
        logger.info("plan completed", mailing_id=mailing_id, revision=mailing.plan_revision)
        await defer(session, "send_mailing", mailing_id=mailing_id, lane=0)
        await defer(session, "settle_mailing", mailing_id=mailing_id)


class _Plan:
    """Writes slices in rounds, PARALLEL_SLICES side by side."""

    def __init__(self, sessions: Sessions, mailing: Mailing, *, is_first: bool) -> None:
        self._sessions = sessions
        self._mailing = mailing
        self._is_first = is_first
        self.audience = Audience(mailing.tags, mailing.operator_codes, mailing.audience_max_client_id or 0)
        self._after: int | None = 0  # None: all slices are taken
        self._taking = asyncio.Lock()
        self._is_obsolete = False

    async def write(self) -> bool:
        """Return False if an edit or a restore makes this plan obsolete."""
        while await self._heartbeat() and self._after is not None:
            until = time.monotonic() + ROUND_S
            async with asyncio.TaskGroup() as tasks:
                for _ in range(PARALLEL_SLICES):
                    tasks.create_task(self._write_slices(until))
        return not self._is_obsolete

    async def _heartbeat(self) -> bool:
        async with transaction(self._sessions) as session:
            if not await heartbeat_plan(session, self._mailing.id, self._mailing.plan_revision):
                self._is_obsolete = True
        return not self._is_obsolete

    async def _write_slices(self, until: float) -> None:
        while part := await self._take_slice():
            while not await self._try_write(part):
                await self._heartbeat()
            failpoints.hit("plan.after")
            if time.monotonic() >= until:
                return

    async def _take_slice(self) -> ClientSlice | None:
        async with self._taking, transaction(self._sessions) as session:
            if self._after is None or self._is_obsolete:
                return None
            part = await next_slice(session, self.audience, after=self._after, count=SLICE)
            self._after = part.last if part else None
            return part

    async def _try_write(self, part: ClientSlice) -> bool:
        """Return False if a change of clients goes first."""
        mailing = self._mailing
        async with transaction(self._sessions) as session:
            if not await lock_plan(session, mailing.id, mailing.plan_revision):
                self._is_obsolete = True
                return True
            if not await lock_for_plan(session):
                return False
            now = await database_now(session)
            windows = [mailing.next_window(zone, now) for zone in part.timezones]
            planned = None
            if self._is_first:
                planned = await plan_new_slice(session, mailing.id, self.audience, windows, part)
            if planned is None:  # another worker plans too, or did so before
                planned = await plan_slice(session, mailing.id, self.audience, windows, part)
            increment(planned=planned)
            await analyze_refilled(session)
            await defer(session, "send_mailing", mailing_id=mailing.id, lane=0)
            failpoints.hit("plan.inside")
        return True


async def _cancel_unselected(sessions: Sessions, mailing: Mailing, audience: Audience) -> None:
    """Cancel in slices, as the plan. A newer edit ends it early: that edit's plan does it all again."""
    after: int | None = 0
    while after is not None:
        async with transaction(sessions) as session:
            if not await heartbeat_plan(session, mailing.id, mailing.plan_revision):
                return
            after = await cancel_unselected(session, mailing.id, audience, after=after, count=SLICE)

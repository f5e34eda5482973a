"""Plan a mailing: from its filter to messages with their windows."""

import asyncio

from mailing import failpoints
from mailing.database.clock import database_now
from mailing.database.engine import Sessions, transaction
from mailing.job_queue.enqueue import defer
from mailing.mailings.models import Mailing
from mailing.mailings.repository import MailingRepository, claim_plan, complete_plan, heartbeat_plan, lock_plan
from mailing.mailings.window import next_window
from mailing.messages.locks import lock_for_plan
from mailing.messages.planning import Audience, Slice, cancel_unselected, next_slice, plan_slice
from mailing.observability.log import get, increment

logger = get(__name__)

SLICE = 20_000
SIDE_BY_SIDE = 2  # a slice keeps one PostgreSQL backend busy; more would slow down sending


async def plan_mailing(sessions: Sessions, mailing_id: int) -> None:
    """Start the mailing if its start has come, and plan its messages for its newest revision.

    It is idempotent: after a crash it starts again and changes only what is not up to date. Sending continues during
    the first plan. A slice is one transaction, 0.2-0.4 s for 20,000 messages.
    """
    async with transaction(sessions) as session:
        if not await claim_plan(session, mailing_id):
            await defer(session, "send_mailing", mailing_id=mailing_id, lane=0)
            return
    async with transaction(sessions) as session:
        mailing = await MailingRepository(session=session).get(mailing_id)
    audience = Audience(mailing.tags, mailing.operator_codes, mailing.audience_max_client_id or 0)
    after = 0
    while slices := await _next_slices(sessions, mailing, audience, after=after):
        async with asyncio.TaskGroup() as side_by_side:
            for part in slices:
                side_by_side.create_task(_plan(sessions, mailing, audience, part))
        after = slices[-1].upto
    if slices is None:
        return
    if mailing.plan_revision > 1:
        await _cancel_unselected(sessions, mailing, audience)
    async with transaction(sessions) as session:
        if not await complete_plan(session, mailing_id, mailing.plan_revision):
            return
        logger.info("the plan is complete", mailing_id=mailing_id, revision=mailing.plan_revision)
        await defer(session, "send_mailing", mailing_id=mailing_id, lane=0)
        await defer(session, "settle_mailing", mailing_id=mailing_id)


async def _next_slices(sessions: Sessions, mailing: Mailing, audience: Audience, *, after: int) -> list[Slice] | None:
    """Return the next slices, empty when all clients are planned. None: this plan is obsolete."""
    slices: list[Slice] = []
    async with transaction(sessions) as session:
        if not await heartbeat_plan(session, mailing.id, mailing.plan_revision):
            return None
        while len(slices) < SIDE_BY_SIDE and (part := await next_slice(session, audience, after=after, count=SLICE)):
            slices.append(part)
            after = part.upto
    return slices


async def _plan(sessions: Sessions, mailing: Mailing, audience: Audience, part: Slice) -> None:
    while not await _try_plan(sessions, mailing, audience, part):
        async with transaction(sessions) as session:
            await heartbeat_plan(session, mailing.id, mailing.plan_revision)
    failpoints.hit("plan.after")


async def _try_plan(sessions: Sessions, mailing: Mailing, audience: Audience, part: Slice) -> bool:
    """Plan a slice. False: a change of clients takes precedence."""
    async with transaction(sessions) as session:
        if not await lock_plan(session, mailing.id, mailing.plan_revision):
            return True  # the next attempt finds out too
        if not await lock_for_plan(session):
            return False
        now = await database_now(session)
        openings = [
            next_window(zone, mailing.window, not_before=now, before=mailing.ends_at) for zone in part.timezones
        ]
        increment(planned=await plan_slice(session, mailing.id, audience, openings, part))
        await defer(session, "send_mailing", mailing_id=mailing.id, lane=0)
        failpoints.hit("plan.inside")
    return True


async def _cancel_unselected(sessions: Sessions, mailing: Mailing, audience: Audience) -> None:
    """Cancel unselected messages in slices. A newer edit ends it early, because its own plan repeats it."""
    after: int | None = 0
    while after is not None:
        async with transaction(sessions) as session:
            if not await heartbeat_plan(session, mailing.id, mailing.plan_revision):
                return
            after = await cancel_unselected(session, mailing.id, audience, after=after, count=SLICE)

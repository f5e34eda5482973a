"""Plan a mailing: write one message for each client that the filter selects, with its send window."""

import asyncio

from mailing import failpoints
from mailing.database.clock import database_now
from mailing.database.engine import Sessions, transaction
from mailing.job_queue.enqueue import defer
from mailing.mailings.models import Mailing
from mailing.mailings.repository import claim_plan, complete_plan, heartbeat_plan, lock_plan
from mailing.mailings.window import next_window
from mailing.messages.locks import lock_for_plan
from mailing.messages.planning import Audience, ClientSlice, cancel_unselected, next_slice, plan_slice
from mailing.observability.log import get, increment
from mailing.timezones import rules_version

logger = get(__name__)

SLICE = 20_000
PARALLEL_SLICES = 2  # a slice keeps one of PostgreSQL's processors busy; more would take them from the senders


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
    audience = Audience(mailing.tags, mailing.operator_codes, mailing.audience_max_client_id or 0)
    after = 0
    while slices := await _next_slices(sessions, mailing, audience, after=after):
        async with asyncio.TaskGroup() as tasks:
            for part in slices:
                tasks.create_task(_plan(sessions, mailing, audience, part))
        after = slices[-1].last
    if slices is None:
        return
    if mailing.plan_revision > 1:
        await _cancel_unselected(sessions, mailing, audience)
    async with transaction(sessions) as session:
        if not await complete_plan(session, mailing_id, mailing.plan_revision):
            return
        logger.info("plan completed", mailing_id=mailing_id, revision=mailing.plan_revision)
        await defer(session, "send_mailing", mailing_id=mailing_id, lane=0)
        await defer(session, "settle_mailing", mailing_id=mailing_id)


async def _next_slices(
    sessions: Sessions, mailing: Mailing, audience: Audience, *, after: int
) -> list[ClientSlice] | None:
    """Return the next PARALLEL_SLICES slices; an empty list when all are planned. None: this plan is obsolete."""
    slices: list[ClientSlice] = []
    async with transaction(sessions) as session:
        if not await heartbeat_plan(session, mailing.id, mailing.plan_revision):
            return None
        while len(slices) < PARALLEL_SLICES and (part := await next_slice(session, audience, after=after, count=SLICE)):
            slices.append(part)
            after = part.last
    return slices


async def _plan(sessions: Sessions, mailing: Mailing, audience: Audience, part: ClientSlice) -> None:
    while not await _try_plan(sessions, mailing, audience, part):
        async with transaction(sessions) as session:
            await heartbeat_plan(session, mailing.id, mailing.plan_revision)
    failpoints.hit("plan.after")


async def _try_plan(sessions: Sessions, mailing: Mailing, audience: Audience, part: ClientSlice) -> bool:
    """Return False if a change of clients goes first."""
    async with transaction(sessions) as session:
        if not await lock_plan(session, mailing.id, mailing.plan_revision):
            return True  # the plan is obsolete; the next heartbeat finds that out, too
        if not await lock_for_plan(session):
            return False
        now = await database_now(session)
        windows = [next_window(zone, mailing.window, not_before=now, before=mailing.ends_at) for zone in part.timezones]
        increment(planned=await plan_slice(session, mailing.id, audience, windows, part))
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

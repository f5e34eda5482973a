"""From a mailing's filter to its messages: who gets one, and from when until when."""

from sqlalchemy.ext.asyncio import AsyncSession

from mailing import crashpoints, queue
from mailing.db import Sessions, transaction
from mailing.log import count, get
from mailing.mailings.models import Mailing
from mailing.mailings.repository import MailingRepository, begin_plan, continue_plan, database_now, end_plan
from mailing.mailings.schedule import opening
from mailing.messages.openings import Audience, cancel_unselected, next_slice, plan_slice

logger = get(__name__)

SLICE = 20_000


async def plan_mailing(sessions: Sessions, mailing_id: int) -> None:
    """Launches the mailing if its start has come, and brings its messages up to its newest revision.

    Idempotent: after a crash it begins again and changes only what is not yet as it should be. Sending goes on beside
    the first plan. A slice is one transaction, 0.2-0.3 s for 20,000 messages.
    """
    async with transaction(sessions) as session:
        if not await begin_plan(session, mailing_id):
            await queue.defer(session, "send_mailing", mailing_id=mailing_id, lane=0)
            return
    async with transaction(sessions) as session:
        mailing = await MailingRepository(session=session).get(mailing_id)
    audience = Audience(mailing.tags, mailing.operator_codes, mailing.audience_upto or 0)
    after: int | None = 0
    while after is not None:
        async with transaction(sessions) as session:
            if not await continue_plan(session, mailing_id, mailing.revision):
                return
            after = await _plan_next_slice(session, mailing, audience, after)
            crashpoints.reached("plan.inside")
        crashpoints.reached("plan.after")
    if mailing.revision > 1:
        await _cancel_unselected(sessions, mailing, audience)
    async with transaction(sessions) as session:
        if not await end_plan(session, mailing_id, mailing.revision):
            return
        logger.info("the plan is complete", mailing_id=mailing_id, revision=mailing.revision)
        await queue.defer(session, "send_mailing", mailing_id=mailing_id, lane=0)
        await queue.defer(session, "settle_mailing", mailing_id=mailing_id)


async def _plan_next_slice(session: AsyncSession, mailing: Mailing, audience: Audience, after: int) -> int | None:
    """Returns the last client of the slice, or None when there was none left."""
    last, zones = await next_slice(session, audience, after=after, count=SLICE)
    if last is None:
        return None
    now = await database_now(session)
    openings = [opening(zone, mailing.window, not_before=now, before=mailing.ends_at) for zone in zones]
    count(planned=await plan_slice(session, mailing.id, audience, openings, after=after, upto=last))
    await queue.defer(session, "send_mailing", mailing_id=mailing.id, lane=0)
    return last


async def _cancel_unselected(sessions: Sessions, mailing: Mailing, audience: Audience) -> None:
    """In slices, as the plan. A newer edit ends it early: its own plan does it all again."""
    after: int | None = 0
    while after is not None:
        async with transaction(sessions) as session:
            if not await continue_plan(session, mailing.id, mailing.revision):
                return
            after = await cancel_unselected(session, mailing.id, audience, after=after, count=SLICE)

"""The send job: send a mailing's due messages for a while, then leave the rest to a later job.

Nothing here has to survive a crash: a claim is a lease, and the results of a worker that lost it no longer count.
"""

from datetime import timedelta

from mailing.database.clock import database_now
from mailing.database.engine import in_transaction, transaction
from mailing.mailings.repository import finish, texts
from mailing.observability.log import get
from mailing.sending.claiming import Claimer, enqueue_lane, running_mailing
from mailing.sending.context import SendContext
from mailing.sending.revalidation import Revalidator
from mailing.sending.send_loop import SendLoop

logger = get(__name__)


async def send_mailing(context: SendContext, revalidator: Revalidator, mailing_id: int, lane: int) -> None:
    """Send until nothing is due, or until other mailings want their turn.

    A lane is one process's share of a mailing. A worker on lane n enqueues lane n + 1 as long as there is more than it
    can take. A process that already sends the mailing postpones the lane by a second. Where other mailings wait, one
    lane is enough: turns go by mailing.
    """
    if lane and context.should_yield:
        return
    if mailing_id in context.active_mailings:
        await _postpone(context, mailing_id, lane)
        return
    context.active_mailings.add(mailing_id)
    try:
        while (loop := await _begin(context, revalidator, mailing_id, lane)) and await loop.run():
            if context.should_yield or context.stopping.is_set() or loop.blocked:
                break
    finally:
        context.active_mailings.discard(mailing_id)
        woken = mailing_id in context.woken
        context.woken.discard(mailing_id)
    if woken:
        await in_transaction(context.sessions, enqueue_lane, mailing_id)
    elif loop:
        await _enqueue_rest(context, mailing_id, lane, loop)


async def _postpone(context: SendContext, mailing_id: int, lane: int) -> None:
    """Postpone the lane until the mailing has had its turn here. Meanwhile another process may take it."""
    if not lane:
        context.woken.add(mailing_id)
        return
    async with transaction(context.sessions) as session:
        at = await database_now(session) + timedelta(seconds=context.postponed_lane_s)
        await enqueue_lane(session, mailing_id, lane, at=at)


async def _begin(context: SendContext, revalidator: Revalidator, mailing_id: int, lane: int) -> SendLoop | None:
    async with transaction(context.sessions) as session:
        mailing = await running_mailing(session, mailing_id)
        if mailing is None:
            return None
        claimer = Claimer(context, mailing, await texts(session, mailing_id), lane)
        return SendLoop(context, revalidator, mailing, claimer)


async def _enqueue_rest(context: SendContext, mailing_id: int, lane: int, loop: SendLoop) -> None:
    async with transaction(context.sessions) as session:
        if loop.blocked:
            if loop.blocked.until:
                await enqueue_lane(session, mailing_id, at=loop.blocked.until)
        elif loop.has_more:
            await enqueue_lane(session, mailing_id, lane)
        elif loop.next_due:
            await enqueue_lane(session, mailing_id, at=loop.next_due)
        elif await finish(session, mailing_id):
            logger.info("mailing finished", mailing_id=mailing_id)

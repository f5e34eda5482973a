"""Settle messages whose window has closed, and finish the mailing."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.clock import database_now
from mailing.database.engine import Sessions, transaction
from mailing.events import WORKER, record_event
from mailing.job_queue.enqueue import defer
from mailing.mailings.models import Mailing
from mailing.mailings.repository import find_mailing, finish, lock_plan
from mailing.mailings.states import MailingStatus
from mailing.messages.cancellation import cancel_of_mailing
from mailing.messages.locks import lock_for_plan
from mailing.messages.rescheduling import expire_of_mailing, raise_closing, reschedule_closed, timezones_of_closed
from mailing.observability.log import get, increment
from mailing.restore.repository import is_restored

logger = get(__name__)

SLICE = 20_000


async def settle_mailing(sessions: Sessions, mailing_id: int) -> None:
    """Give messages with a closed window the next one, or end them; finish a mailing with nothing left to wait for."""
    while await _settle_slice(sessions, mailing_id):
        pass
    async with transaction(sessions) as session:
        if await finish(session, mailing_id):
            logger.info("mailing finished", mailing_id=mailing_id)


async def _settle_slice(sessions: Sessions, mailing_id: int) -> bool:
    """Return whether there may be more."""
    async with transaction(sessions) as session:
        mailing = await find_mailing(session, mailing_id)
        now = await database_now(session)
        if mailing is None or mailing.status == MailingStatus.scheduled or await is_restored(session):
            return False  # in a restored database it is not known whether they were sent
        if mailing.status == MailingStatus.cancelled:
            return await cancel_of_mailing(session, mailing_id, SLICE) == SLICE
        if not await lock_plan(session, mailing_id, mailing.plan_revision):
            return True  # it was edited or deleted since it was read
        if now >= mailing.ends_at:
            return await _expire_slice(session, mailing_id) == SLICE
        return await _reschedule_slice(session, mailing, now)


async def _reschedule_slice(session: AsyncSession, mailing: Mailing, now: datetime) -> bool:
    """Return whether there may be more."""
    if not await lock_for_plan(session):
        return True
    zones = await timezones_of_closed(session, mailing.id, SLICE)
    if not zones:
        await raise_closing(session, mailing.id)
        return False
    windows = [mailing.next_window(zone, now) for zone in zones if zone]
    moved = await reschedule_closed(session, mailing.id, SLICE, windows)
    increment(reopened=moved)
    await defer(session, "send_mailing", mailing_id=mailing.id, lane=0)
    return moved > 0


async def _expire_slice(session: AsyncSession, mailing_id: int) -> int:
    expired = await expire_of_mailing(session, mailing_id, SLICE)
    increment(expired=expired)
    if expired:
        await record_event(session, "mailing.expired", by=WORKER, mailing_id=mailing_id, messages=expired)
    return expired

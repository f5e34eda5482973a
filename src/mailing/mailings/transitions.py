"""Status transitions of a mailing and the jobs that follow from them. The caller has locked its row."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.clock import database_now
from mailing.job_queue.enqueue import defer
from mailing.mailings import states
from mailing.mailings.models import Mailing
from mailing.mailings.states import MailingStatus


def mark_released(mailing: Mailing, *, by: str, now: datetime) -> None:
    """Mark the current content as released; a mailing whose start has come starts. A trigger copies the release."""
    mailing.released_revision, mailing.released_at, mailing.released_by = mailing.content_revision, now, by
    if mailing.status not in states.NOT_STARTED:
        return
    mailing.status = states.released_status(mailing.starts_at, now)
    mailing.started_at = now if mailing.status == MailingStatus.running else None


async def set_status(session: AsyncSession, mailing: Mailing, status: MailingStatus) -> bool:
    """Set the status and enqueue its jobs. False: the mailing already had it."""
    if mailing.status == status:
        return False
    mailing.status, mailing.updated_at = status, await database_now(session)
    await session.flush()
    await enqueue_jobs(session, mailing)
    return True


async def reopen(session: AsyncSession, mailing: Mailing) -> None:
    """Continue after messages that had ended became pending again; a finished mailing runs again."""
    mailing.finished_at = None
    await set_status(session, mailing, states.reopened_status(mailing.status))
    await defer(session, "settle_mailing", mailing_id=mailing.id)


async def enqueue_jobs(session: AsyncSession, mailing: Mailing) -> None:
    """Plan now or at the start, and finalize at the end. A draft or closed mailing needs no job."""
    if mailing.status is MailingStatus.draft or mailing.status not in states.OPEN:
        return
    starts_at = mailing.starts_at if mailing.status is MailingStatus.scheduled else None
    await defer(session, "plan_mailing", at=starts_at, mailing_id=mailing.id)
    await defer(session, "settle_mailing", at=mailing.ends_at, mailing_id=mailing.id)

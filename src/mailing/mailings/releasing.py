"""A sender's release: of what somebody read, and only that."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from mailing.events import record_event
from mailing.mailings import states
from mailing.mailings.models import Mailing
from mailing.mailings.repository import MailingRepository, database_now
from mailing.mailings.states import MailingStatus
from mailing.mailings.transitions import enqueue_jobs


async def release(session: AsyncSession, mailing_id: int, *, read: int | None = None, by: str) -> Mailing:
    """`read` is the revision the caller decided about; None: as it is stored now.

    Releasing twice changes nothing. Raises Conflict where the mailing is closed, its end has passed, or it is no longer
    what was read.
    """
    mailing = await MailingRepository(session=session).locked(mailing_id)
    status, now = MailingStatus(mailing.status), await database_now(session)
    states.refuse_release(status, ends_at=mailing.ends_at, now=now)
    states.refuse_unread(mailing.content_revision, read=read)
    if status is not MailingStatus.draft:
        return mailing
    mark_released(mailing, by=by, now=now)
    mailing.updated_at = now
    await session.flush()
    await enqueue_jobs(session, mailing)
    revisions = {"revision": mailing.content_revision, "text_revision": mailing.text_revision}
    await record_event(session, "mailing.released", by=by, mailing_id=mailing_id, **revisions)
    return mailing


def mark_released(mailing: Mailing, *, by: str, now: datetime) -> None:
    """As it is now. What has not begun begins where its start has come; the schema keeps a copy of the release."""
    mailing.released_revision, mailing.released_at, mailing.released_by = mailing.content_revision, now, by
    if mailing.status not in states.AHEAD:
        return
    mailing.status = states.status_once_released(mailing.starts_at, now)
    mailing.started_at = now if mailing.status == MailingStatus.running else None

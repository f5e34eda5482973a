"""Release a mailing: exactly the revision that the sender has read."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.clock import database_now
from mailing.events import record_event
from mailing.mailings import states
from mailing.mailings.models import Mailing
from mailing.mailings.orm_repository import MailingRepository
from mailing.mailings.states import MailingStatus
from mailing.mailings.transitions import enqueue_jobs


async def release(session: AsyncSession, mailing_id: int, *, revision: int | None = None, by: str) -> Mailing:
    """Release a mailing as the caller read it. `revision` is that one; None accepts the one that is stored.

    Releasing twice changes nothing. Raises Conflict if the mailing is closed, if its end has passed, or if it was
    changed after the caller read it.
    """
    mailing = await MailingRepository(session=session).get_for_update(mailing_id)
    status, now = MailingStatus(mailing.status), await database_now(session)
    states.ensure_releasable(status, ends_at=mailing.ends_at, now=now)
    states.ensure_revision(mailing.content_revision, read=revision)
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
    """Mark the current content as released; a mailing whose start has come starts. A trigger copies the release."""
    mailing.released_revision, mailing.released_at, mailing.released_by = mailing.content_revision, now, by
    if mailing.status not in states.NOT_STARTED:
        return
    mailing.status = states.released_status(mailing.starts_at, now)
    mailing.started_at = now if mailing.status == MailingStatus.running else None

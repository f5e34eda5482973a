"""Actions on a mailing from its release on: the same for the API and the admin page.

Each locks the mailing, raises Conflict if its status forbids the action (`states`), and records an event.
"""

from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.clock import database_now
from mailing.events import record_event
from mailing.job_queue.enqueue import defer
from mailing.mailings import states
from mailing.mailings.models import Mailing
from mailing.mailings.orm_repository import MailingRepository
from mailing.mailings.states import MailingStatus
from mailing.mailings.test_sends import find_recipient, send_test
from mailing.mailings.transitions import enqueue_jobs, mark_released, reopen, set_status
from mailing.messages import resolution
from mailing.messages.cancellation import cancel_of_mailing, pending_of_mailing

# messages that a cancel request cancels itself, within a second; a job cancels the rest, and none is sent
MAX_CANCELLED_AT_ONCE = 5000


async def release(session: AsyncSession, mailing_id: int, *, revision: int | None = None, by: str) -> Mailing:
    """Release a mailing as the caller read it. `revision` is that one; None accepts the one that is stored.

    Releasing twice changes nothing. Raises Conflict if the mailing is closed, if its end has passed, or if it was
    changed after the caller read it.
    """
    mailing = await MailingRepository(session=session).get_for_update(mailing_id)
    status, now = mailing.status, await database_now(session)
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


async def pause(session: AsyncSession, mailing_id: int, *, by: str) -> tuple[Mailing, int]:
    """Return the mailing and the number of messages held back."""
    mailing = await MailingRepository(session).get_for_update(mailing_id)
    paused = await set_status(session, mailing, states.paused_status(mailing.status))
    stopped = await pending_of_mailing(session, mailing_id)
    if paused:
        await record_event(session, "mailing.paused", by=by, mailing_id=mailing_id, stopped=stopped)
    return mailing, stopped


async def resume(session: AsyncSession, mailing_id: int, *, by: str) -> Mailing:
    mailing = await MailingRepository(session).get_for_update(mailing_id)
    if await set_status(session, mailing, states.resumed_status(mailing.status)):
        await record_event(session, "mailing.resumed", by=by, mailing_id=mailing_id)
    return mailing


async def cancel(session: AsyncSession, mailing_id: int, *, by: str) -> tuple[Mailing, int]:
    """Return the mailing and the number of messages that were pending."""
    mailing = await MailingRepository(session).get_for_update(mailing_id)
    cancelled = await set_status(session, mailing, states.cancelled_status(mailing.status))
    cancelled_now = await cancel_of_mailing(session, mailing_id, MAX_CANCELLED_AT_ONCE)
    pending = await pending_of_mailing(session, mailing_id)
    if pending:
        await defer(session, "settle_mailing", mailing_id=mailing_id)
    if cancelled:
        await record_event(session, "mailing.cancelled", by=by, mailing_id=mailing_id, stopped=cancelled_now + pending)
    return mailing, cancelled_now + pending


async def resend_failed(session: AsyncSession, mailing_id: int, *, by: str) -> tuple[Mailing, int]:
    """Return the mailing and the number of messages that are pending again."""
    mailing = await MailingRepository(session).get_for_update(mailing_id)
    now = await database_now(session)
    states.ensure_resendable(mailing.status, ends_at=mailing.ends_at, now=now)
    resent = await resolution.resend_failed(session, mailing_id)
    if resent:
        await reopen(session, mailing)
        await record_event(session, "mailing.resent", by=by, mailing_id=mailing_id, resent=resent)
    return mailing, resent


async def test(session: AsyncSession, mailing_id: int, *, phone: str, revision: int | None, by: str) -> int:
    """Send a test and return its message id. `revision` is the one that the caller saw; None accepts any."""
    mailing = await MailingRepository(session=session).get_visible(mailing_id)
    states.ensure_testable(mailing.status)
    states.ensure_revision(mailing.content_revision, read=revision)
    client_id = (await find_recipient(session, phone)).id
    message_id = await send_test(session, mailing, client_id=client_id, by=by)
    ids = {"mailing_id": mailing_id, "message_id": message_id, "client_id": client_id}
    await record_event(session, "mailing.tested", by=by, **ids)
    return message_id

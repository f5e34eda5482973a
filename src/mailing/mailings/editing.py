"""Create, change and delete a mailing: the same for the API and the admin page."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import to_builtins
from msgspec.structs import asdict
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.clock import database_now
from mailing.errors import FieldError, Invalid
from mailing.events import difference, record_event
from mailing.mailings import states
from mailing.mailings.models import Mailing
from mailing.mailings.orm_repository import MailingRepository
from mailing.mailings.schemas import MailingIn, MailingOut, columns
from mailing.mailings.states import MailingStatus
from mailing.mailings.transitions import enqueue_jobs, mark_released
from mailing.messages.cancellation import cancel_of_deleted


async def create(session: AsyncSession, data: MailingIn, *, by: str) -> MailingOut:
    """Create a mailing for a caller who may send: it is released at once."""
    now = await database_now(session)
    mailing = _draft_of(data, now=now)
    mark_released(mailing, by=by, now=now)
    return await _store(session, mailing, by=by)


async def create_draft(session: AsyncSession, data: MailingIn, *, by: str) -> MailingOut:
    """Create a draft for a caller who may not send."""
    return await _store(session, _draft_of(data, now=await database_now(session)), by=by)


def _draft_of(data: MailingIn, *, now: datetime) -> Mailing:
    ensure_future_end(data.ends_at, now)
    return Mailing(status=MailingStatus.draft, content_revision=1, **columns(asdict(data)))


async def _store(session: AsyncSession, mailing: Mailing, *, by: str) -> MailingOut:
    await MailingRepository(session=session).add(mailing, auto_refresh=True)
    await enqueue_jobs(session, mailing)
    created = MailingOut.of(mailing)
    draft = {"draft": True} if created.status is MailingStatus.draft else {}  # others are released by creating them
    await record_event(session, "mailing.created", by=by, mailing_id=mailing.id, **_details(created), **draft)
    return created


def _details(mailing: MailingOut) -> dict[str, Any]:
    """Return what an event records of a mailing; of the text only that it changed."""
    whole = to_builtins(mailing)
    return {name: whole[name] for name in ("starts_at", "ends_at", "filter", "local_window")}


async def edit(session: AsyncSession, mailing_id: int, given: Mapping[str, Any], *, by: str) -> MailingOut:
    """Change a mailing for a caller who may send: a released mailing is released again, a draft stays a draft.

    `given` holds fields of a MailingIn or MailingPatch.
    """
    mailing = await MailingRepository(session=session).get_for_update(mailing_id)
    old, now = MailingOut.of(mailing), await database_now(session)
    if changes := changes_of(mailing, given, now=now):
        _change(mailing, changes, now=now)
        if old.status is not MailingStatus.draft:
            mark_released(mailing, by=by, now=now)
        await _store_change(session, mailing, old, by=by)
    return MailingOut.of(mailing)


async def edit_unreleased(session: AsyncSession, mailing_id: int, given: Mapping[str, Any], *, by: str) -> MailingOut:
    """Change a mailing for a caller who may not send: its release is withdrawn. Forbidden once it has started."""
    mailing = await MailingRepository(session=session).get_for_update(mailing_id)
    old, now = MailingOut.of(mailing), await database_now(session)
    states.ensure_editable(old.status)
    states.ensure_editor_may_change(old.status)
    if changes := changes_of(mailing, given, now=now):
        _change(mailing, changes, now=now)
        mailing.status = MailingStatus.draft
        await _store_change(session, mailing, old, by=by)
        if old.status is not MailingStatus.draft:
            await record_event(
                session, "mailing.release_withdrawn", by=by, mailing_id=mailing_id, revision=mailing.released_revision
            )
    return MailingOut.of(mailing)


async def _store_change(session: AsyncSession, mailing: Mailing, old: MailingOut, *, by: str) -> None:
    await session.flush()
    await enqueue_jobs(session, mailing)
    new = MailingOut.of(mailing)
    change = difference(*({"text": each.text} | _details(each) for each in (old, new)), hidden="text")
    if "text" in change["fields"]:
        change["text_revision"] = mailing.text_revision
    await record_event(session, "mailing.edited", by=by, mailing_id=mailing.id, revision=new.revision, **change)


async def remove(session: AsyncSession, mailing_id: int, *, by: str) -> int:
    """Delete a mailing and return the number of messages that were cancelled."""
    mailing = await MailingRepository(session=session).get_for_update(mailing_id)
    mailing.deleted_at = await database_now(session)
    if mailing.status in states.OPEN:
        mailing.status = MailingStatus.cancelled
    await session.flush()
    stopped = await cancel_of_deleted(session, mailing_id)
    await record_event(session, "mailing.deleted", by=by, mailing_id=mailing_id, stopped=stopped)
    return stopped


def changes_of(mailing: Mailing, given: Mapping[str, Any], *, now: datetime) -> dict[str, Any]:
    """Return the columns that would change. Raises Conflict or Invalid for a change that is not allowed now."""
    status = mailing.status
    states.ensure_editable(status)
    changes = {name: value for name, value in columns(given).items() if getattr(mailing, name) != value}
    starts_at, ends_at = (changes.get(name, getattr(mailing, name)) for name in ("starts_at", "ends_at"))
    states.ensure_start_unmoved(status, old=mailing.starts_at, new=starts_at)
    if "ends_at" in changes:
        ensure_future_end(ends_at, now)
    if ends_at <= starts_at:
        raise Invalid(FieldError("ends_at", "must be after starts_at"))
    return changes


def ensure_future_end(ends_at: datetime, now: datetime) -> None:
    if ends_at <= now:
        raise Invalid(FieldError("ends_at", "must lie in the future"))


def _change(mailing: Mailing, changes: Mapping[str, Any], *, now: datetime) -> None:
    for name, value in changes.items():
        setattr(mailing, name, value)
    if "text" in changes:
        mailing.text_revision += 1
    mailing.content_revision += 1
    if mailing.status not in states.NOT_STARTED:
        mailing.plan_revision += 1
        mailing.audience_max_client_id = None
    mailing.updated_at = now

"""Resolve unknown messages: record the true result of one, or of all in a mailing."""

from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.clock import database_now
from mailing.errors import Conflict
from mailing.mailings import states
from mailing.mailings.models import Mailing
from mailing.mailings.orm_repository import MailingRepository
from mailing.mailings.transitions import reopen
from mailing.messages import resolution as message_resolution
from mailing.messages.queries import get_message
from mailing.messages.schemas import Resolution
from mailing.messages.states import MessageStatus


async def resolve(session: AsyncSession, message_id: int, resolution: Resolution, *, by: str) -> None:
    """Resolve one message. Raises Conflict if it is not unknown, or can't be sent again."""
    mailing = await MailingRepository(session=session).get_for_update_by_message(message_id)
    await _ensure_resendable(session, mailing, resolution=resolution)
    if not await message_resolution.resolve_message(session, message_id, resolution, by=by):
        raise _cannot_resolve((await get_message(session, message_id)).status)
    if resolution.as_ == "pending":
        await reopen(session, mailing)


async def resolve_all(
    session: AsyncSession, mailing_id: int, resolution: Resolution, *, by: str
) -> tuple[Mailing, int]:
    """Return the mailing and the number of unknown messages that were resolved."""
    mailing = await MailingRepository(session=session).get_for_update(mailing_id)
    await _ensure_resendable(session, mailing, resolution=resolution)
    resolved = await message_resolution.resolve_all_unknown(session, mailing_id, resolution, by=by)
    if resolved and resolution.as_ == "pending":
        await reopen(session, mailing)
    return mailing, resolved


async def _ensure_resendable(session: AsyncSession, mailing: Mailing, *, resolution: Resolution) -> None:
    if resolution.as_ == "pending":
        now = await database_now(session)
        states.ensure_resendable(mailing.status, ends_at=mailing.ends_at, now=now)


def _cannot_resolve(status: MessageStatus) -> Conflict:
    if status is MessageStatus.unknown:
        return Conflict(
            "This message can't be sent again: its client was deleted or has opted out, or its phone was erased. "
            "Resolve it as sent or failed."
        )
    return Conflict(f"Only an unknown message can be resolved; this one is {status}.")

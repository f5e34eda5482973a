"""Unknown messages: the API's way to say what became of them, of one or of all that a mailing has."""

from litestar import post
from litestar.params import JSONBody
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.errors import Conflict
from mailing.mailings import states
from mailing.mailings.models import Mailing
from mailing.mailings.repository import MailingRepository, database_now
from mailing.mailings.schemas import ResolvedMailing
from mailing.mailings.states import MailingStatus
from mailing.mailings.transitions import reopen
from mailing.messages import resolution as resolving
from mailing.messages.queries import get_message
from mailing.messages.schemas import MessageDetail, Resolution
from mailing.messages.states import MessageStatus
from mailing.web.parameters import Body, Caller, Id, Session, documented


@post(
    "/messages/{message_id:int}/resolve",
    dto=Body[Resolution],
    return_dto=None,
    summary="Say what became of an unknown message",
    operation_id="resolve_message",
    status_code=200,
    responses=documented(400, 404, 409, 413),
    tags=["messages"],
)
async def resolve_message(
    session: Session, message_id: Id, data: JSONBody[Resolution], caller: Caller
) -> MessageDetail:
    """`sent` and `failed` say what the operator found out elsewhere. `pending` sends it again with the same id and the
    same words, as long as its mailing lasts: a recipient whom it had reached all the same gets it twice, unless the
    gateway recognises the id. A finished mailing then runs again. Who said it stays in `resolutions`.
    """
    await resolve(session, message_id, data, by=caller)
    return await get_message(session, message_id)


async def resolve(session: AsyncSession, message_id: int, resolution: Resolution, *, by: str) -> None:
    """Raises Conflict where it is not unknown, or can't be sent again."""
    mailing = await MailingRepository(session=session).locked_of_message(message_id)
    await _refuse_in_vain(session, mailing, resolution=resolution)
    if not await resolving.resolve_message(session, message_id, resolution, by=by):
        raise _unresolvable((await get_message(session, message_id)).status)
    if resolution.as_ == "pending":
        await reopen(session, mailing)


@post(
    "/mailings/{mailing_id:int}/resolve-unknown",
    dto=Body[Resolution],
    return_dto=None,
    summary="Say what became of a mailing's unknown messages",
    operation_id="resolve_unknown",
    status_code=200,
    responses=documented(400, 404, 409, 413),
    tags=["mailings"],
)
async def resolve_unknown(
    session: Session, mailing_id: Id, data: JSONBody[Resolution], caller: Caller
) -> ResolvedMailing:
    """As for one message, for all that are unknown at this moment. With `pending`, those whose client is gone or has
    opted out, or whose phone was erased, stay unknown.
    """
    mailing = await MailingRepository(session=session).locked(mailing_id)
    await _refuse_in_vain(session, mailing, resolution=data)
    resolved = await resolving.resolve_all_unknown(session, mailing_id, data, by=caller)
    if resolved and data.as_ == "pending":
        await reopen(session, mailing)
    return ResolvedMailing.of(mailing, resolved=resolved)


async def _refuse_in_vain(session: AsyncSession, mailing: Mailing, *, resolution: Resolution) -> None:
    if resolution.as_ == "pending":
        now = await database_now(session)
        states.refuse_sending_again(MailingStatus(mailing.status), ends_at=mailing.ends_at, now=now)


def _unresolvable(status: MessageStatus) -> Conflict:
    if status is MessageStatus.unknown:
        return Conflict(
            "It can't be sent again: its client is gone or has opted out, or the phone that it went to was erased; "
            "say sent or failed."
        )
    return Conflict(f"Only an unknown message can be resolved; this one is {status}.")

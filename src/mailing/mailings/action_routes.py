"""HTTP handlers of actions: preview, release, pause, resume, cancel, resend, test, resolve."""

from functools import partial
from typing import Annotated

from litestar import Controller, Response
from litestar.datastructures import ResponseHeader
from litestar.params import JSONBody, QueryParameter

from mailing.mailings import actions, resolution
from mailing.mailings.preview import Preview, preview
from mailing.mailings.schemas import MailingIn, MailingOut, ResentMailing, ResolvedMailing, StoppedMailing, TestIn
from mailing.mailings.states import MAX_REVISION
from mailing.messages.queries import get_message
from mailing.messages.schemas import MessageDetail, Resolution
from mailing.web.idempotency import post
from mailing.web.parameters import MAX_ID, Caller, Id, Session, documented

ReadRevision = Annotated[
    int | None,
    QueryParameter(
        ge=1, le=MAX_REVISION, description="a revision, 1 or greater: the mailing's revision when you read it"
    ),
]

Edited = Annotated[
    int | None,
    QueryParameter(ge=1, le=MAX_ID, description="an id, 1 or greater, of the mailing that the body would replace"),
]


# An action's answer includes what it changed; it is refused if the state forbids it.
post_action = partial(post, status_code=200, responses=documented(409))


@post(
    "/mailings/preview",
    summary="See what a mailing would do",
    status_code=200,
    responses=documented(404, 409),
    tags=["mailings"],
)
async def preview_mailing(session: Session, data: JSONBody[MailingIn], mailing_id: Edited = None) -> Preview:
    """Preview a new mailing from its body; nothing is stored.

    The answer says who would get it and who would not, when, in which local hours, in how many SMS, and how many
    recipients the end would cut off: at the current rate, with no other mailing running. With `mailing_id`: what
    replacing that mailing would mean for its unsent messages.
    """
    return await preview(session, data, mailing_id=mailing_id)


class ActionController(Controller):
    path = "/mailings/{mailing_id:int}"
    tags = ["mailings"]  # noqa: RUF012 - Litestar's way to declare it

    @post_action("/release", summary="Release a draft")
    async def release_mailing(
        self, session: Session, mailing_id: Id, caller: Caller, revision: ReadRevision = None
    ) -> MailingOut:
        """Release a `draft`: it is sent at `starts_at`, or at once if that has passed. Editors create drafts only.

        With `revision` it is released only if it is still what you read (409 otherwise). Releasing twice changes
        nothing. A draft whose end has passed needs a later end first (409).
        """
        return MailingOut.of(await actions.release(session, mailing_id, revision=revision, by=caller))

    @post_action("/pause", summary="Pause a mailing")
    async def pause_mailing(self, session: Session, mailing_id: Id, caller: Caller) -> StoppedMailing:
        """Stop sending: no call to the gateway begins more than a second later.

        `stopped` counts the messages held back; messages in a call at that moment end as their call does. Pausing
        twice changes nothing. The mailing's end does not move.
        """
        mailing, stopped = await actions.pause(session, mailing_id, by=caller)
        return StoppedMailing.of(mailing, stopped=stopped)

    @post_action("/resume", summary="Resume a paused mailing")
    async def resume_mailing(self, session: Session, mailing_id: Id, caller: Caller) -> MailingOut:
        return MailingOut.of(await actions.resume(session, mailing_id, by=caller))

    @post_action("/cancel", summary="Cancel a mailing")
    async def cancel_mailing(self, session: Session, mailing_id: Id, caller: Caller) -> StoppedMailing:
        """Stop a mailing for good: unsent messages become `cancelled`, or `unknown` if one may have been accepted.

        No call begins more than a second later. `stopped` counts the messages that were pending; messages in a call at
        that moment end as their call does. In a very large mailing some messages are shown as `pending` for a while;
        they are not sent.
        """
        mailing, stopped = await actions.cancel(session, mailing_id, by=caller)
        return StoppedMailing.of(mailing, stopped=stopped)

    @post_action("/resend-failed", summary="Send failed messages again")
    async def resend_failed(self, session: Session, mailing_id: Id, caller: Caller) -> ResentMailing:
        """Send every `failed` message again, with its id and history, at the client's next local hours.

        Clients that were deleted or have opted out get nothing. A finished mailing runs again; a paused one stays
        paused. `resent` counts the messages, 0 if none had failed.
        """
        mailing, resent = await actions.resend_failed(session, mailing_id, by=caller)
        return ResentMailing.of(mailing, resent=resent)

    @post(
        "/test",
        summary="Send a mailing's text to one phone",
        responses=documented(409),
        response_headers=[ResponseHeader("Location", documentation_only=True, description="The message's address")],
    )
    async def test_mailing(
        self, session: Session, mailing_id: Id, data: JSONBody[TestIn], caller: Caller
    ) -> Response[MessageDetail]:
        """Send at once, whatever the mailing's times and window are, and for ten minutes at most.

        The phone must belong to a client. The message is left out of every list, count and report: read it at
        `Location`, under the tested mailing's id.
        """
        message_id = await actions.test(session, mailing_id, phone=data.phone, revision=None, by=caller)
        return Response(
            await get_message(session, message_id),
            status_code=201,
            headers={"Location": f"/mailing/api/messages/{message_id}/"},
        )


@post_action("/messages/{message_id:int}/resolve", summary="Say what became of an unknown message", tags=["messages"])
async def resolve_message(
    session: Session, message_id: Id, data: JSONBody[Resolution], caller: Caller
) -> MessageDetail:
    """Record what became of an unknown message.

    `sent` and `failed` record what the operator found out elsewhere. `pending` sends it again with the same id and
    text until its mailing ends: a recipient it had already reached gets it twice, unless the gateway recognises the
    id. A finished mailing then runs again. `resolutions` keeps who resolved it.
    """
    await resolution.resolve(session, message_id, data, by=caller)
    return await get_message(session, message_id)


@post_action(
    "/mailings/{mailing_id:int}/resolve-unknown",
    summary="Say what became of a mailing's unknown messages",
    tags=["mailings"],
)
async def resolve_unknown(
    session: Session, mailing_id: Id, data: JSONBody[Resolution], caller: Caller
) -> ResolvedMailing:
    """Record what became of all messages that are unknown at this moment, as for one message.

    With `pending`, messages whose client was deleted or has opted out, or whose phone was erased, stay unknown.
    """
    mailing, resolved = await resolution.resolve_all(session, mailing_id, data, by=caller)
    return ResolvedMailing.of(mailing, resolved=resolved)

"""`/mailing/api/mailings/{id}/…`: what can be done with a mailing while it runs, and after."""

from typing import Annotated

from litestar import Controller, Response, post
from litestar.datastructures import ResponseHeader
from litestar.params import JSONBody, QueryParameter

from mailing.mailings import actions
from mailing.mailings.releasing import release
from mailing.mailings.schemas import MailingOut, ResentMailing, StoppedMailing, TestIn
from mailing.mailings.states import MAX_REVISION
from mailing.messages.queries import get_message
from mailing.messages.schemas import MessageDetail
from mailing.web.parameters import Body, Caller, Id, Session, documented

ReadRevision = Annotated[
    int | None,
    QueryParameter(ge=1, le=MAX_REVISION, description="a revision, 1 or greater: the mailing's when you read it"),
]


class ControlController(Controller):
    path = "/mailings/{mailing_id:int}"
    tags = ["mailings"]  # noqa: RUF012 - Litestar's way to declare it
    return_dto = None

    @post(
        "/release",
        summary="Release a draft",
        operation_id="release_mailing",
        status_code=200,
        responses=documented(400, 404, 409),
    )
    async def release_mailing(
        self, session: Session, mailing_id: Id, caller: Caller, revision: ReadRevision = None
    ) -> MailingOut:
        """An editor's mailing is a `draft` and is sent only after this: at `starts_at`, or at once if that has passed.
        With `revision` it is released only if it still is what you read (409 otherwise). Releasing twice changes
        nothing. A draft whose end has passed needs a later end first (409).
        """
        return MailingOut.of(await release(session, mailing_id, read=revision, by=caller))

    @post(
        "/pause",
        summary="Pause a mailing",
        operation_id="pause_mailing",
        status_code=200,
        responses=documented(400, 404, 409),
    )
    async def pause_mailing(self, session: Session, mailing_id: Id, caller: Caller) -> StoppedMailing:
        """No call begins more than a second later. `stopped` counts the messages it holds back; those in a call at that
        moment end as their call does. Pausing twice changes nothing; the end passes all the same.
        """
        mailing, stopped = await actions.pause(session, mailing_id, by=caller)
        return StoppedMailing.of(mailing, stopped=stopped)

    @post(
        "/resume",
        summary="Resume a paused mailing",
        operation_id="resume_mailing",
        status_code=200,
        responses=documented(400, 404, 409),
    )
    async def resume_mailing(self, session: Session, mailing_id: Id, caller: Caller) -> MailingOut:
        return MailingOut.of(await actions.resume(session, mailing_id, by=caller))

    @post(
        "/cancel",
        summary="Cancel a mailing",
        operation_id="cancel_mailing",
        status_code=200,
        responses=documented(400, 404, 409),
    )
    async def cancel_mailing(self, session: Session, mailing_id: Id, caller: Caller) -> StoppedMailing:
        """Stops it for good: unsent messages become `cancelled`, or `unknown` where an attempt may have arrived. No
        call begins more than a second later. `stopped` counts the messages that were pending; those in a call at that
        moment end as their call does. Of very many some are shown as `pending` for a while; they are not sent.
        """
        mailing, stopped = await actions.cancel(session, mailing_id, by=caller)
        return StoppedMailing.of(mailing, stopped=stopped)

    @post(
        "/resend-failed",
        summary="Send failed messages again",
        operation_id="resend_failed",
        status_code=200,
        responses=documented(400, 404, 409),
    )
    async def resend_failed(self, session: Session, mailing_id: Id, caller: Caller) -> ResentMailing:
        """Every `failed` message is `pending` again, with its id and its history, at the client's next local hours;
        clients that are gone or have opted out get nothing. A finished mailing runs again, a paused one stays paused.
        `resent` counts them: 0 where nothing had failed.
        """
        mailing, resent = await actions.resend_failed(session, mailing_id, by=caller)
        return ResentMailing.of(mailing, resent=resent)

    @post(
        "/test",
        dto=Body[TestIn],
        summary="Send a mailing's text to one phone",
        operation_id="test_mailing",
        responses=documented(400, 404, 409, 413),
        response_headers=[ResponseHeader("Location", documentation_only=True, description="The message's address")],
    )
    async def test_mailing(
        self, session: Session, mailing_id: Id, data: JSONBody[TestIn], caller: Caller
    ) -> Response[MessageDetail]:
        """At once, whatever the mailing's times and window say, and for ten minutes at most. The phone must be a
        client's. The message is in no list, count or report: read it at `Location`, under the tested mailing's id.
        """
        message_id = await actions.test(session, mailing_id, phone=data.phone, read=None, by=caller)
        return Response(
            await get_message(session, message_id),
            status_code=201,
            headers={"Location": f"/mailing/api/messages/{message_id}/"},
        )

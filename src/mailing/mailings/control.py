"""`/mailing/api/mailings/{id}/…`: what can be done with a mailing while it runs, and after."""

from litestar import Controller, Response, post
from litestar.datastructures import ResponseHeader
from litestar.params import JSONBody

from mailing import queue
from mailing.events import note
from mailing.mailings import rules
from mailing.mailings.repository import MailingRepository, database_now
from mailing.mailings.rules import Status
from mailing.mailings.schemas import MailingOut, ResentMailing, StoppedMailing, TestIn
from mailing.mailings.steps import move, send_again
from mailing.mailings.testing import recipient, send_test
from mailing.messages import resolving
from mailing.messages.cancelling import cancel_of_mailing, pending_of_mailing
from mailing.messages.reading import message_story
from mailing.messages.schemas import MessageStory
from mailing.web import Body, Caller, Id, Session, documented

AT_ONCE = 5000  # messages that a cancel stops before it answers, within a second; the others follow, and are not sent


class ControlController(Controller):
    path = "/mailings/{mailing_id:int}"
    tags = ["mailings"]  # noqa: RUF012 - Litestar's way to declare it
    return_dto = None

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
        mailing = await MailingRepository(session=session).locked(mailing_id)
        paused = await move(session, mailing, rules.after_pause(Status(mailing.status)))
        stopped = await pending_of_mailing(session, mailing_id)
        if paused:
            await note(session, "mailing.paused", by=caller, mailing_id=mailing_id, stopped=stopped)
        return StoppedMailing.of(mailing, stopped=stopped)

    @post(
        "/resume",
        summary="Resume a paused mailing",
        operation_id="resume_mailing",
        status_code=200,
        responses=documented(400, 404, 409),
    )
    async def resume_mailing(self, session: Session, mailing_id: Id, caller: Caller) -> MailingOut:
        mailing = await MailingRepository(session=session).locked(mailing_id)
        if await move(session, mailing, rules.after_resume(Status(mailing.status))):
            await note(session, "mailing.resumed", by=caller, mailing_id=mailing_id)
        return MailingOut.of(mailing)

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
        mailing = await MailingRepository(session=session).locked(mailing_id)
        cancelled = await move(session, mailing, rules.after_cancel(Status(mailing.status)))
        moved = await cancel_of_mailing(session, mailing_id, AT_ONCE)
        left = await pending_of_mailing(session, mailing_id)
        if left:
            await queue.defer(session, "settle_mailing", mailing_id=mailing_id)
        if cancelled:
            await note(session, "mailing.cancelled", by=caller, mailing_id=mailing_id, stopped=moved + left)
        return StoppedMailing.of(mailing, stopped=moved + left)

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
        mailing = await MailingRepository(session=session).locked(mailing_id)
        now = await database_now(session)
        rules.refuse_sending_again(Status(mailing.status), ends_at=mailing.ends_at, now=now)
        resent = await resolving.resend_failed(session, mailing_id)
        if resent:
            await send_again(session, mailing)
            await note(session, "mailing.resent", by=caller, mailing_id=mailing_id, resent=resent)
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
    ) -> Response[MessageStory]:
        """At once, whatever the mailing's times and window say, and for ten minutes at most. The phone must be a
        client's. The message is in no list, count or report: read it at `Location`, under the tested mailing's id.
        """
        mailing = await MailingRepository(session=session).existing(mailing_id)
        rules.refuse_test(Status(mailing.status))
        client_id = (await recipient(session, data.phone)).id
        message_id = await send_test(session, mailing, client_id=client_id)
        ids = {"mailing_id": mailing_id, "message_id": message_id, "client_id": client_id}
        await note(session, "mailing.tested", by=caller, **ids)
        return Response(
            await message_story(session, message_id),
            status_code=201,
            headers={"Location": f"/mailing/api/messages/{message_id}/"},
        )

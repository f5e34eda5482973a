"""Actions on a mailing, each confirmed on a page that states the effect in numbers."""

from collections.abc import Callable
from typing import Any

from litestar import Controller, Response, get
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.admin.forms import form, post_form
from mailing.admin.guards import EDITOR, SENDER
from mailing.admin.kept_forms import KEEPS_FORM, is_restored
from mailing.admin.language import number
from mailing.admin.mailings.form import revision_of
from mailing.admin.pages import page, redirect
from mailing.admin.viewer import CurrentViewer, Viewer
from mailing.database.clock import database_now
from mailing.errors import Conflict, Invalid
from mailing.mailings import actions, editing, states
from mailing.mailings.models import Mailing
from mailing.mailings.orm_repository import MailingRepository
from mailing.mailings.schemas import TestIn
from mailing.mailings.states import MailingStatus
from mailing.statistics.repository import mailing_line
from mailing.web.parameters import Caller, Id, Session
from mailing.web.state import AnyRequest
from mailing.web.validation import check

STATUS_CHECKS: dict[str, Callable[[MailingStatus], object]] = {
    "pause": states.paused_status,
    "resume": states.resumed_status,
    "cancel": states.cancelled_status,
    "test": states.ensure_testable,
}


class ActionPages(Controller):
    path = "/mailings/{mailing_id:int}"

    @get(["/pause", "/resume", "/resend-failed"], guards=SENDER)
    async def confirm_action(self, request: AnyRequest, session: Session, mailing_id: Id) -> Response[str]:
        mailing = await MailingRepository(session=session).get_visible(mailing_id)
        return await _confirm_page(request, session, mailing)

    @get(["/cancel", "/delete"], guards=EDITOR)
    async def confirm_end(
        self, request: AnyRequest, session: Session, viewer: CurrentViewer, mailing_id: Id
    ) -> Response[str]:
        mailing = await MailingRepository(session=session).get_visible(mailing_id)
        _ensure_may_end(viewer, mailing)
        return await _confirm_page(request, session, mailing)

    @post_form("/pause", guards=SENDER)
    async def pause(self, session: Session, viewer: CurrentViewer, caller: Caller, mailing_id: Id) -> Response[None]:
        _, count = await actions.pause(session, mailing_id, by=caller)
        one = viewer.ngettext("Paused: %(n)s message is held back.", "Paused: %(n)s messages are held back.", count)
        return _done(viewer, mailing_id, notice=one, count=count)

    @post_form("/resume", guards=SENDER)
    async def resume(self, session: Session, viewer: CurrentViewer, caller: Caller, mailing_id: Id) -> Response[None]:
        await actions.resume(session, mailing_id, by=caller)
        return _done(viewer, mailing_id, notice=viewer.gettext("The mailing was resumed."))

    @post_form("/cancel", guards=EDITOR)
    async def cancel(self, session: Session, viewer: CurrentViewer, caller: Caller, mailing_id: Id) -> Response[None]:
        _ensure_may_end(viewer, await MailingRepository(session=session).get_for_update(mailing_id))
        _, count = await actions.cancel(session, mailing_id, by=caller)
        one = viewer.ngettext("Cancelled: %(n)s message is not sent.", "Cancelled: %(n)s messages are not sent.", count)
        return _done(viewer, mailing_id, notice=one, count=count)

    @post_form("/resend-failed", guards=SENDER)
    async def resend(self, session: Session, viewer: CurrentViewer, caller: Caller, mailing_id: Id) -> Response[None]:
        _, count = await actions.resend_failed(session, mailing_id, by=caller)
        one = viewer.ngettext("%(n)s message is sent again.", "%(n)s messages are sent again.", count)
        return _done(viewer, mailing_id, notice=one, count=count)

    @post_form("/delete", guards=EDITOR)
    async def delete(self, session: Session, viewer: CurrentViewer, caller: Caller, mailing_id: Id) -> Response[None]:
        _ensure_may_end(viewer, await MailingRepository(session=session).get_for_update(mailing_id))
        count = await editing.remove(session, mailing_id, by=caller)
        one = viewer.ngettext("Deleted: %(n)s message is not sent.", "Deleted: %(n)s messages are not sent.", count)
        return redirect("/admin/mailings", notice=_with_count(viewer, one, count))

    @get("/test", guards=SENDER)
    async def show_test_form(self, request: AnyRequest, session: Session, mailing_id: Id) -> Response[str]:
        mailing = await MailingRepository(session=session).get_visible(mailing_id)
        await _ensure_possible(session, mailing, action="test")
        return page(request, "mailings/test.html", mailing=mailing, phone="")

    @post_form("/test", guards=SENDER, opt={KEEPS_FORM: True})
    async def test(
        self, request: AnyRequest, session: Session, viewer: CurrentViewer, caller: Caller, mailing_id: Id
    ) -> Response[Any]:
        sent = await form(request)
        phone, revision = sent.get("phone", ""), revision_of(sent) if "revision" in sent else None
        if is_restored(request):
            mailing = await MailingRepository(session=session).get_visible(mailing_id)
            return page(request, "mailings/test.html", mailing=mailing, phone=phone)
        try:
            await actions.test(
                session, mailing_id, phone=check({"phone": phone}, TestIn).phone, revision=revision, by=caller
            )
        except (Invalid, Conflict) as refused:
            mailing = await MailingRepository(session=session).get_visible(mailing_id)
            errors = {"phone": _test_error(viewer, refused)}
            return page(request, "mailings/test.html", mailing=mailing, phone=phone, errors=errors)
        return _done(viewer, mailing_id, notice=viewer.gettext("The test is being sent."))


def _ensure_may_end(viewer: Viewer, mailing: Mailing) -> None:
    """Raise if an editor would end more than a draft. A POST locks the row, so no release intervenes."""
    if not viewer.may("sender"):
        states.ensure_editor_may_end(mailing.status)


async def _confirm_page(request: AnyRequest, session: AsyncSession, mailing: Mailing) -> Response[str]:
    action = request.url.path.rstrip("/").rpartition("/")[2]
    await _ensure_possible(session, mailing, action=action)
    counts = await mailing_line(session, mailing.id)
    return page(request, "mailings/confirm.html", action=action, mailing=mailing, counts=counts)


async def _ensure_possible(session: AsyncSession, mailing: Mailing, *, action: str) -> None:
    """Raise the error of the action itself, before the page asks for confirmation."""
    status = mailing.status
    if action == "resend-failed":
        states.ensure_resendable(status, ends_at=mailing.ends_at, now=await database_now(session))
    elif action in STATUS_CHECKS:
        STATUS_CHECKS[action](status)


def _done(viewer: Viewer, mailing_id: int, *, notice: str, count: int = 0) -> Response[None]:
    return redirect(f"/admin/mailings/{mailing_id}", notice=_with_count(viewer, notice, count))


def _with_count(viewer: Viewer, notice: str, count: int) -> str:
    return notice % {"n": number(count, viewer.language)}


def _test_error(viewer: Viewer, refused: Invalid | Conflict) -> str:
    if isinstance(refused, Conflict):
        return viewer.gettext(str(refused))
    return viewer.gettext("Enter the phone of a client, such as 79161234567. Tests are sent to clients only.")

"""`/admin/mailings/{id}/release`: review and release of a draft."""

from typing import Any

from litestar import Controller, Response, get
from msgspec import convert
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.admin.charts import hourly_chart
from mailing.admin.forms import form, post_form
from mailing.admin.guards import SENDER
from mailing.admin.mailings.form import revision_of
from mailing.admin.pages import page, redirect
from mailing.admin.viewer import CurrentViewer
from mailing.database.clock import database_now
from mailing.errors import Conflict
from mailing.mailings import actions, states
from mailing.mailings.models import Mailing
from mailing.mailings.orm_repository import MailingRepository
from mailing.mailings.preview import preview
from mailing.mailings.repository import ReleasedContent, last_release
from mailing.mailings.schemas import MailingIn, MailingOut
from mailing.mailings.states import MailingStatus
from mailing.restore.repository import resumed_since
from mailing.web.parameters import Caller, Id, Session
from mailing.web.state import AnyRequest


class ReleasePages(Controller):
    path = "/mailings/{mailing_id:int}/release"

    @get("/", guards=SENDER)
    async def review(self, request: AnyRequest, session: Session, mailing_id: Id) -> Response[Any]:
        mailing = await MailingRepository(session=session).get_visible(mailing_id)
        states.ensure_releasable(mailing.status, ends_at=mailing.ends_at, now=await database_now(session))
        if mailing.status != MailingStatus.draft:
            return redirect(f"/admin/mailings/{mailing_id}")
        return await _release_page(request, session, mailing)

    @post_form("/", guards=SENDER)
    async def release(
        self, request: AnyRequest, session: Session, viewer: CurrentViewer, caller: Caller, mailing_id: Id
    ) -> Response[Any]:
        """Release the revision that the page showed; if it was changed since, show the page again."""
        read = revision_of(await form(request))
        try:
            released = await actions.release(session, mailing_id, revision=read, by=caller)
        except Conflict as refused:
            mailing = await MailingRepository(session=session).get_visible(mailing_id)
            if mailing.content_revision == read or mailing.status != MailingStatus.draft:
                raise
            return await _release_page(request, session, mailing, problem=str(refused))
        begun = released.status == MailingStatus.running
        notice = viewer.gettext("Released. Sending starts.") if begun else viewer.gettext("Released.")
        return redirect(f"/admin/mailings/{mailing_id}", notice=notice)


async def _release_page(
    request: AnyRequest, session: AsyncSession, mailing: Mailing, *, problem: str = ""
) -> Response[str]:
    shown = MailingOut.of(mailing)
    plan = await preview(session, convert(shown, MailingIn, from_attributes=True), mailing_id=mailing.id)
    last = await last_release(session, mailing.id)
    return page(
        request,
        "mailings/release.html",
        status=409 if problem else 200,
        problem=problem,
        mailing=shown,
        begins_at_once=mailing.starts_at <= await database_now(session),
        resumed_at=await resumed_since(session, mailing.created_at),
        last=last,
        changed=_changed(mailing, last) if last else [],
        plan=plan,
        sms=plan.sms,
        chart=hourly_chart(plan.hours),
        said=False,
    )


def _changed(mailing: Mailing, last: ReleasedContent) -> list[str]:
    """Return the names of the fields that differ; the two ends of the hours count as one."""
    names = [name for name in last.__struct_fields__ if getattr(last, name) != getattr(mailing, name)]
    return [name for name in names if name != "window_end" or "window_start" not in names]

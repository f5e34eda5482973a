"""`/admin/mailings`: the list, and the form of a mailing beside its plan."""

from typing import Any, Literal

from litestar import Controller, Response, get, post
from litestar.params import FromQuery
from msgspec.structs import asdict, replace
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.admin.charts import hourly_chart
from mailing.admin.forms import option, post_form
from mailing.admin.guards import EDITOR, VIEWER
from mailing.admin.kept_forms import KEEPS_FORM, is_restored
from mailing.admin.mailings import repository
from mailing.admin.mailings.form import (
    MAX_FORM_BYTES,
    MailingForm,
    error_messages,
    mailing_edit_conflicts,
    mailing_of,
    parse_form,
)
from mailing.admin.mailings.repository import Choices
from mailing.admin.pages import page, redirect
from mailing.admin.viewer import CurrentViewer, Viewer
from mailing.clients.timezone import selectable
from mailing.database.clock import database_now
from mailing.errors import Conflict, Forbidden, Invalid
from mailing.mailings import editing, states
from mailing.mailings.models import Mailing
from mailing.mailings.orm_repository import MailingRepository
from mailing.mailings.preview import Preview, preview
from mailing.mailings.schemas import MailingOut
from mailing.mailings.sms_segments import segments_of
from mailing.mailings.states import MailingStatus
from mailing.statistics.mailing_list import newest_mailings
from mailing.web.parameters import MAX_ID, Caller, Id, OptionalId, Session
from mailing.web.problems import problem_of
from mailing.web.state import AnyRequest

PAGE_SIZE = 50

FilterName = Literal["tags", "operator_codes"]


class MailingPages(Controller):
    path = "/mailings"
    request_max_body_size = MAX_FORM_BYTES

    @get("/", guards=VIEWER)
    async def show_list(
        self,
        request: AnyRequest,
        session: Session,
        q: FromQuery[str] = "",
        status: FromQuery[str] = "",
        before: OptionalId = None,
    ) -> Response[str]:
        words = q.replace("\x00", "").strip()
        kept = option(MailingStatus, status)
        found = await newest_mailings(session, words=words, status=kept, before=before or MAX_ID, limit=PAGE_SIZE)
        rows, more = found[:PAGE_SIZE], len(found) > PAGE_SIZE
        asked = {"q": words, "status": kept or ""}
        return page(
            request,
            "mailings/list.html",
            rows=rows,
            asked=asked,
            next_before=rows[-1].id if more else None,
            paged=before is not None,
            statuses=list(MailingStatus),
        )

    @get("/new", guards=EDITOR)
    async def show_new(
        self, request: AnyRequest, session: Session, viewer: CurrentViewer, like: OptionalId = None
    ) -> Response[str]:
        original = await MailingRepository(session=session).get_visible(like) if like else None
        fields = MailingForm.anew(await database_now(session), viewer.zone, like=original)
        return await form_page(request, session, fields)

    @post_form("/new", guards=EDITOR, opt={KEEPS_FORM: True})
    async def create(
        self, request: AnyRequest, session: Session, viewer: CurrentViewer, caller: Caller
    ) -> Response[Any]:
        fields = await parse_form(request)
        if is_restored(request):
            return await form_page(request, session, fields)
        try:
            data = mailing_of(fields, now=await database_now(session))
            created = await (editing.create if viewer.may("sender") else editing.create_draft)(session, data, by=caller)
        except Invalid as refused:
            return await form_page(request, session, fields, errors=error_messages(viewer, refused))
        return done(viewer, created, viewer.gettext("The mailing was saved."))

    @get("/{mailing_id:int}/edit", guards=EDITOR)
    async def show_edit(
        self, request: AnyRequest, session: Session, viewer: CurrentViewer, mailing_id: Id
    ) -> Response[str]:
        mailing = editable(viewer, await MailingRepository(session=session).get_visible(mailing_id))
        return await form_page(request, session, MailingForm.of(mailing, viewer.zone), mailing=mailing)

    @post_form("/{mailing_id:int}/edit", guards=EDITOR, opt={KEEPS_FORM: True})
    async def change(
        self, request: AnyRequest, session: Session, viewer: CurrentViewer, caller: Caller, mailing_id: Id
    ) -> Response[Any]:
        fields = await parse_form(request)
        mailing = await MailingRepository(session=session).get_for_update(mailing_id)
        if is_restored(request):
            return await form_page(request, session, fields, mailing=mailing)
        try:
            editable(viewer, mailing)
            data = mailing_of(fields, now=await database_now(session), stored=mailing)
            if errors := mailing_edit_conflicts(viewer, fields, mailing):
                fields = replace(fields, revision=str(mailing.content_revision))
                return await form_page(request, session, fields, mailing=mailing, errors=errors)
            edit = editing.edit if viewer.may("sender") else editing.edit_unreleased
            changed = await edit(session, mailing_id, asdict(data), by=caller)
        except Invalid as refused:
            return await form_page(request, session, fields, mailing=mailing, errors=error_messages(viewer, refused))
        except (Conflict, Forbidden) as ended:  # or started, while the form was open: what was typed stays
            errors = {"text": viewer.gettext(str(ended))}
            answer = await form_page(request, session, fields, mailing=mailing, errors=errors)
            answer.status_code = problem_of(request, ended).status_code
            return answer
        return done(viewer, changed, viewer.gettext("The mailing was changed."))

    @post("/plan", guards=EDITOR, opt={KEEPS_FORM: True}, status_code=200)
    async def show_plan(
        self, request: AnyRequest, session: Session, viewer: CurrentViewer, mailing_id: OptionalId = None
    ) -> Response[str]:
        """Show the plan: alone for htmx, else with the whole form."""
        fields = await parse_form(request)
        mailing = await MailingRepository(session=session).get_visible(mailing_id) if mailing_id else None
        errors: dict[str, str] = {}
        plan: Preview | None = None
        try:
            data = mailing_of(fields, now=await database_now(session), stored=mailing)
            plan = await preview(session, data, mailing_id=mailing_id)
        except Invalid as refused:
            errors = error_messages(viewer, refused)
        if "hx-request" in request.headers:
            return page(request, "mailings/plan.html", status=200, errors=errors, said=True, **plan_of(fields, plan))
        return await form_page(request, session, fields, mailing=mailing, errors=errors, plan=plan)

    @post("/choices", guards=EDITOR, opt={KEEPS_FORM: True}, status_code=200)
    async def show_choices(
        self, request: AnyRequest, session: Session, of: FromQuery[FilterName], mailing_id: OptionalId = None
    ) -> Response[str]:
        """Show the tags or operator codes that match the words typed: alone for htmx, else with the whole form."""
        fields = await parse_form(request)
        if "hx-request" in request.headers:
            found = await choices_of(session, fields, of)
            return page(request, "mailings/choices.html", name=of, choices=found)
        mailing = await MailingRepository(session=session).get_visible(mailing_id) if mailing_id else None
        return await form_page(request, session, fields, mailing=mailing)

    @get("/zones", guards=EDITOR)
    async def show_zones(self, request: AnyRequest) -> Response[str]:
        """List the time zones to choose from, once the field of the form has the focus."""
        return page(request, "mailings/zones.html", zones=selectable())


def editable(viewer: Viewer, mailing: Mailing) -> Mailing:
    """Return the mailing. Raise if its status or the role forbids the edit."""
    status = mailing.status
    states.ensure_editable(status)
    if not viewer.may("sender"):
        states.ensure_editor_may_change(status)
    return mailing


def done(viewer: Viewer, mailing: MailingOut, notice: str) -> Response[None]:
    """Redirect to the mailing. For a draft, the notice says that it needs a release."""
    if mailing.status is MailingStatus.draft:
        notice = viewer.gettext("The draft was saved. Nothing is sent before a sender releases it.")
    return redirect(f"/admin/mailings/{mailing.id}", notice=notice)


async def form_page(
    request: AnyRequest,
    session: AsyncSession,
    fields: MailingForm,
    *,
    mailing: Mailing | None = None,
    errors: dict[str, str] | None = None,
    plan: Preview | None = None,
) -> Response[str]:
    return page(
        request,
        "mailings/form.html",
        fields=fields,
        mailing=mailing,
        begun=mailing is not None and mailing.status not in states.NOT_STARTED,
        errors=errors,
        tags=await choices_of(session, fields, "tags"),
        operator_codes=await choices_of(session, fields, "operator_codes"),
        said=False,
        **plan_of(fields, plan),
    )


async def choices_of(session: AsyncSession, fields: MailingForm, name: FilterName) -> Choices:
    words, chosen = (
        (fields.find_tags, fields.tags) if name == "tags" else (fields.find_operator_codes, fields.operator_codes)
    )
    return await repository.choices(session, name, words=words, chosen=chosen)


def plan_of(fields: MailingForm, plan: Preview | None) -> dict[str, Any]:
    """Return the values of `plan.html`. The SMS are counted even while other fields are invalid."""
    return {
        "plan": plan,
        "sms": segments_of(fields.text) if fields.text else None,
        "chart": hourly_chart(plan.hours) if plan else None,
    }

"""Forms to add, change and delete a client."""

from collections.abc import Mapping
from typing import Any

from litestar import Response, get
from litestar.params import FromPath

from mailing.admin.clients.form import client_of, form_values
from mailing.admin.forms import form, post_form
from mailing.admin.guards import EDITOR
from mailing.admin.kept_forms import KEEPS_FORM, is_restored
from mailing.admin.pages import edit_conflicts, errors_of, page, redirect
from mailing.admin.viewer import CurrentViewer, Viewer, viewer_of
from mailing.clients.repository import ClientRepository, PhoneTaken, name_phone_owner, read_client
from mailing.clients.timezone import selectable
from mailing.errors import Conflict, Invalid
from mailing.messages.queries import counts_of_client
from mailing.messages.states import MessageStatus
from mailing.web.parameters import Caller, Id, Session
from mailing.web.state import AnyRequest, state_of

FIELDS = ("phone", "operator_code", "tag", "timezone")
EMPTY = dict.fromkeys((*FIELDS, "opted_out", "was_opted_out", "revision"), "")


@get("/new", guards=EDITOR)
async def new(request: AnyRequest) -> Response[str]:
    return _form(request, EMPTY)


@post_form("/new", guards=EDITOR, opt={KEEPS_FORM: True})
async def create(request: AnyRequest, session: Session, viewer: CurrentViewer, caller: Caller) -> Response[Any]:
    typed = EMPTY | dict(await form(request))
    if is_restored(request):
        return _form(request, typed)
    try:
        sent = client_of(typed)
        async with name_phone_owner(state_of(request).reads, sent.phone):
            client = await ClientRepository(session).create(sent, by=caller)
    except (Invalid, Conflict) as refused:
        await session.rollback()
        return _form(request, typed, refused=refused)
    return redirect(f"/admin/clients/{client.id}", notice=viewer.gettext("The client was added."))


@get("/{client_id:int}/edit", guards=EDITOR)
async def edit(request: AnyRequest, client_id: FromPath[Id]) -> Response[str]:
    client = await read_client(state_of(request).reads, client_id)
    return _form(request, form_values(client), client_id=client_id)


@post_form("/{client_id:int}/edit", guards=EDITOR, opt={KEEPS_FORM: True})
async def change(
    request: AnyRequest, session: Session, viewer: CurrentViewer, client_id: FromPath[Id], caller: Caller
) -> Response[Any]:
    typed = EMPTY | dict(await form(request))
    if is_restored(request):
        return _form(request, typed, client_id=client_id)
    clients = ClientRepository(session)
    try:
        sent = client_of(typed)
        stored = form_values(await clients.lock(client_id))
        if typed["revision"] not in {"", stored["revision"]}:
            errors = edit_conflicts(viewer, typed, {name: stored[name] for name in FIELDS})
            typed |= {"revision": stored["revision"]}
            if errors:
                return _form(request, typed, client_id=client_id, errors=errors)
        async with name_phone_owner(state_of(request).reads, sent.phone):
            await clients.replace(client_id, sent, by=caller)
    except (Invalid, Conflict) as refused:
        await session.rollback()
        return _form(request, typed, client_id=client_id, refused=refused)
    return redirect(f"/admin/clients/{client_id}", notice=viewer.gettext("The client was changed."))


def _form(
    request: AnyRequest,
    typed: Mapping[str, str],
    *,
    client_id: int | None = None,
    errors: Mapping[str, str] | None = None,
    refused: Invalid | Conflict | None = None,
) -> Response[str]:
    """Show the form, with `errors` or with those of a refusal. For a phone in use, link to its client's page."""
    shown: dict[str, Any] = {"typed": typed, "client_id": client_id, "zones": selectable()}
    owner_id = refused.owner_id if isinstance(refused, PhoneTaken) else None
    errors = _errors_of(viewer_of(request), refused) if refused else errors
    return page(request, "clients/form.html", errors=errors, owner_id=owner_id, **shown)


def _errors_of(viewer: Viewer, refused: Invalid | Conflict) -> dict[str, str]:
    labels = {
        "phone": viewer.gettext("Phone"),
        "operator_code": viewer.gettext("Operator code"),
        "tag": viewer.gettext("Tag"),
        "timezone": viewer.gettext("Time zone"),
    }
    return errors_of(viewer, refused, labels)


@get("/{client_id:int}/delete", guards=EDITOR)
async def confirm_delete(request: AnyRequest, session: Session, client_id: FromPath[Id]) -> Response[str]:
    client = await read_client(state_of(request).reads, client_id)
    counts = await counts_of_client(session, client_id)
    unsent = counts.get(MessageStatus.pending, 0) + counts.get(MessageStatus.sending, 0)
    kept = sum(counts.values()) - unsent
    return page(request, "clients/delete.html", client=client, unsent=unsent, kept=kept)


@post_form("/{client_id:int}/delete", guards=EDITOR)
async def remove(session: Session, viewer: CurrentViewer, client_id: FromPath[Id], caller: Caller) -> Response[None]:
    await ClientRepository(session).remove(client_id, by=caller)
    return redirect("/admin/clients", notice=viewer.gettext("The client was deleted."))


HANDLERS = [new, create, edit, change, confirm_delete, remove]

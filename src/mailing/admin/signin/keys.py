"""API keys, for admins. A key is shown once, when it is created."""

from typing import Any

from litestar import Response, get, post
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.access import api_keys
from mailing.admin.forms import form, post_form
from mailing.admin.guards import ADMIN
from mailing.admin.kept_forms import KEEPS_FORM, is_restored
from mailing.admin.pages import errors_of, page, redirect
from mailing.admin.viewer import CurrentViewer
from mailing.errors import Invalid
from mailing.web.parameters import Caller, Id, Session
from mailing.web.state import AnyRequest, AppState, state_of

KEYS = "/admin/keys"


@get("/keys", guards=ADMIN)
async def keys_page(request: AnyRequest, session: Session) -> Response[str]:
    return await _page(request, session)


@post("/keys", guards=ADMIN, opt={KEEPS_FORM: True}, status_code=201)
async def create_key(request: AnyRequest, viewer: CurrentViewer, session: Session, caller: Caller) -> Response[str]:
    sent = await form(request)
    name, scope = sent.get("name", ""), sent.get("scope", "")
    if is_restored(request):
        return await _page(request, session, name=name, scope=scope)
    try:
        key = await api_keys.create(session, name, scope=scope, by=caller, user_id=request.user.id)
    except Invalid as error:
        labels = {"name": viewer.gettext("Name"), "scope": viewer.gettext("Scope")}
        return await _page(request, session, name=name, scope=scope, errors=errors_of(viewer, error, labels))
    return await _page(request, session, status=201, key=key)


@get("/keys/{key_id:int}/revoke", guards=ADMIN)
async def revoke_page(request: AnyRequest, session: Session, key_id: Id) -> Response[str]:
    return page(request, "signin/revoke.html", key=await api_keys.by_id(session, key_id))


@post_form("/keys/{key_id:int}/revoke", guards=ADMIN)
async def revoke_key(viewer: CurrentViewer, state: AppState, caller: Caller, key_id: Id) -> Response[None]:
    await api_keys.revoke(state.sessions, key_id, by=caller)
    return redirect(KEYS, notice=viewer.gettext("The key was revoked."))


async def _page(request: AnyRequest, session: AsyncSession, **values: Any) -> Response[str]:  # noqa: ANN401 - as `page` takes them
    shown = {"keys": await api_keys.all_keys(session), "key": "", "name": "", "scope": "full"}
    configured = bool(state_of(request).settings.api_key)
    return page(request, "signin/keys.html", configured=configured, **(shown | values))


HANDLERS = [keys_page, create_key, revoke_page, revoke_key]

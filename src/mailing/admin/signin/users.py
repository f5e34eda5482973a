"""Users and their roles, for admins."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from litestar import Response, get
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.access import api_keys, users
from mailing.access.roles import Role
from mailing.access.users import Account, KeyCounts
from mailing.admin.forms import form, post_form
from mailing.admin.guards import ADMIN
from mailing.admin.kept_forms import KEEPS_FORM, is_restored
from mailing.admin.pages import errors_of, page, redirect
from mailing.admin.viewer import CurrentViewer, Viewer
from mailing.database.engine import in_transaction, transaction
from mailing.errors import Conflict, FieldError, Invalid
from mailing.web.parameters import Caller, Id, Session
from mailing.web.state import AnyRequest, AppState, state_of

USERS = "/admin/users"


@get("/users", guards=ADMIN)
async def users_page(request: AnyRequest, viewer: CurrentViewer, session: Session) -> Response[str]:
    return await _list(request, viewer, session)


@post_form("/users", guards=ADMIN, opt={KEEPS_FORM: True})
async def create_user(request: AnyRequest, viewer: CurrentViewer, session: Session, caller: Caller) -> Response[Any]:
    sent = await form(request)
    if is_restored(request):
        return await _list(request, viewer, session, sent=sent)
    try:
        role = _role(sent.get("role", ""))
        user_id = await users.create(
            session, sent.get("name", ""), role=role, password=sent.get("password", ""), by=caller
        )
    except (Invalid, Conflict) as error:
        return await _list(request, viewer, session, sent=sent, error=error)
    return redirect(f"{USERS}/{user_id}", notice=viewer.gettext("The user was created."))


@get("/users/{user_id:int}", guards=ADMIN)
async def user_page(request: AnyRequest, viewer: CurrentViewer, session: Session, user_id: Id) -> Response[str]:
    return await _one(request, viewer, session, await users.by_id(session, user_id))


@post_form("/users/{user_id:int}/role", guards=ADMIN)
async def set_role(
    request: AnyRequest, viewer: CurrentViewer, state: AppState, caller: Caller, user_id: Id
) -> Response[Any]:
    sent = await form(request)
    try:
        role = _role(sent.get("role", ""))
        after = await in_transaction(
            state.sessions, users.set_role, user_id, role, by=caller, revoke_keys=_wants_revocation(sent)
        )
    except (Invalid, Conflict) as error:
        return await _refused(request, viewer, user_id, errors_of(viewer, error, {"role": viewer.gettext("Role")}))
    await api_keys.wait_until_revoked(after.revoked)
    notice = _with_keys(viewer, viewer.gettext("The role applies from the next page on."), after)
    return redirect(f"{USERS}/{user_id}", notice=notice)


@post_form("/users/{user_id:int}/password", guards=ADMIN)
async def set_password(
    request: AnyRequest, viewer: CurrentViewer, state: AppState, caller: Caller, user_id: Id
) -> Response[Any]:
    password = (await form(request)).get("password", "")
    try:
        await users.reset_password(state.sessions, partial(users.by_id, user_id=user_id), password, by=caller)
    except (Invalid, Conflict) as error:
        errors = errors_of(viewer, error, {"password": viewer.gettext("New password")})
        return await _refused(request, viewer, user_id, errors)
    notice = viewer.gettext("The password was set. Every session of this user has ended.")
    return redirect(f"{USERS}/{user_id}", notice=notice)


@post_form("/users/{user_id:int}/disable", guards=ADMIN)
async def disable_user(
    request: AnyRequest, viewer: CurrentViewer, state: AppState, caller: Caller, user_id: Id
) -> Response[Any]:
    sent = await form(request)
    try:
        after = await in_transaction(
            state.sessions, users.disable, user_id, by=caller, revoke_keys=_wants_revocation(sent)
        )
    except Conflict as error:
        return await _refused(request, viewer, user_id, errors_of(viewer, error, {"disable": viewer.gettext("Access")}))
    await api_keys.wait_until_revoked(after.revoked)
    notice = _with_keys(viewer, viewer.gettext("This user can no longer sign in."), after)
    return redirect(f"{USERS}/{user_id}", notice=notice)


@post_form("/users/{user_id:int}/enable", guards=ADMIN)
async def enable_user(viewer: CurrentViewer, session: Session, caller: Caller, user_id: Id) -> Response[None]:
    await users.enable(session, user_id, by=caller)
    return redirect(f"{USERS}/{user_id}", notice=viewer.gettext("This user can sign in again."))


def _role_names(viewer: Viewer) -> list[tuple[str, str]]:
    return [
        (str(Role.VIEWER), viewer.gettext("viewer: reads everything")),
        (str(Role.EDITOR), viewer.gettext("editor: also edits clients and drafts mailings")),
        (str(Role.SENDER), viewer.gettext("sender: also releases, stops and resolves")),
        (str(Role.ADMIN), viewer.gettext("admin: also manages users and keys")),
    ]


def _wants_revocation(sent: Mapping[str, str]) -> bool:
    return sent.get("revoke_keys") == "yes"


def _with_keys(viewer: Viewer, notice: str, after: KeyCounts) -> str:
    """`notice`, and what became of the keys that the user made."""
    revoked = viewer.ngettext("%(n)s API key is revoked.", "%(n)s API keys are revoked.", after.revoked)
    live = viewer.ngettext("%(n)s API key stays valid.", "%(n)s API keys stay valid.", after.live)
    counts = [(after.revoked, revoked), (after.live, live)]
    return " ".join([notice, *(sentence % {"n": number} for number, sentence in counts if number)])


def _role(name: str) -> Role:
    try:
        return Role.named(name)
    except KeyError:
        raise Invalid(FieldError("role", "choose one of the roles")) from None


async def _list(
    request: AnyRequest,
    viewer: Viewer,
    session: AsyncSession,
    *,
    sent: Mapping[str, str] | None = None,
    error: Invalid | Conflict | None = None,
) -> Response[str]:
    labels = {"name": viewer.gettext("Name"), "password": viewer.gettext("Password"), "role": viewer.gettext("Role")}
    return page(
        request,
        "signin/users.html",
        users=await users.all_users(session),
        roles=_role_names(viewer),
        sent=sent or {},
        errors=errors_of(viewer, error, labels) if error else None,
    )


async def _refused(request: AnyRequest, viewer: Viewer, user_id: int, errors: dict[str, str]) -> Response[str]:
    async with transaction(state_of(request).sessions) as session:
        return await _one(request, viewer, session, await users.by_id(session, user_id), errors)


async def _one(
    request: AnyRequest, viewer: Viewer, session: AsyncSession, user: Account, errors: dict[str, str] | None = None
) -> Response[str]:
    return page(
        request,
        "signin/user.html",
        user=user,
        keys=await api_keys.live_of(session, user.id),
        roles=_role_names(viewer),
        errors=errors,
    )


HANDLERS = [users_page, create_user, user_page, set_role, set_password, disable_user, enable_user]

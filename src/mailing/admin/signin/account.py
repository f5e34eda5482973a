"""The user's own account: password, sessions, language and time zone."""

from typing import Any

from litestar import Response, get
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.access import authentication, users
from mailing.access import sessions as signed
from mailing.admin.forms import form, post_form
from mailing.admin.guards import SIGN_IN, VIEWER
from mailing.admin.pages import errors_of, page, redirect
from mailing.admin.signin import cookies
from mailing.admin.signin.user_agents import describe
from mailing.admin.viewer import CurrentViewer
from mailing.database.engine import transaction
from mailing.errors import Conflict, FieldError, Invalid, TooMany, Unauthorized
from mailing.timezones import zone_names
from mailing.web.parameters import QueryId, Session
from mailing.web.state import AnyRequest, AppState

ACCOUNT = "/admin/account"


@get("/account", guards=VIEWER)
async def account_page(request: AnyRequest, session: Session) -> Response[str]:
    return await _page(request, session)


@post_form("/account/password", guards=VIEWER)
async def change_password(request: AnyRequest, viewer: CurrentViewer, state: AppState) -> Response[Any]:
    try:
        token = await _changed(request, state)
    except (Invalid, Conflict) as error:
        labels = {"password": viewer.gettext("New password"), "old": viewer.gettext("Current password")}
        return await _refused(request, state, errors_of(viewer, error, labels))
    except (Unauthorized, TooMany) as error:
        return await _refused(request, state, {"old": viewer.gettext(str(error))})
    notice = viewer.gettext("The password was changed. Your other sessions have ended.")
    return cookies.keep_token(redirect(ACCOUNT, notice=notice), request, token)


@post_form("/account/close-session", guards=VIEWER)
async def close_session(
    request: AnyRequest, viewer: CurrentViewer, session: Session, session_id: QueryId
) -> Response[None]:
    await signed.close_one(session, request.user.id, session_id)
    return redirect(ACCOUNT, notice=viewer.gettext("The session has ended."))


@post_form("/account/sign-out-everywhere", guards=VIEWER)
async def sign_out_everywhere(request: AnyRequest, viewer: CurrentViewer, session: Session) -> Response[None]:
    await authentication.sign_out_everywhere(session, request.user)
    notice = viewer.gettext("You are signed out in every browser.")
    return cookies.forget_token(redirect(SIGN_IN, notice=notice), request)


async def _changed(request: AnyRequest, state: AppState) -> str:
    sent = await form(request)
    if sent.get("password", "") != sent.get("again", ""):
        raise Invalid(FieldError("password", "does not match the repeated one"))
    return await authentication.change_password(
        state.sessions,
        request.user,
        sent.get("old", ""),
        new=sent.get("password", ""),
        browser=cookies.browser_info(request),
    )


async def _refused(request: AnyRequest, state: AppState, errors: dict[str, str]) -> Response[str]:
    async with transaction(state.sessions) as session:
        return await _page(request, session, errors=errors)


async def _page(request: AnyRequest, session: AsyncSession, *, errors: dict[str, str] | None = None) -> Response[str]:
    user = await users.by_id(session, request.user.id)
    return page(
        request,
        "signin/account.html",
        user=user,
        described=describe,
        sessions=await signed.open_sessions(session, user.id, token=cookies.token_of(request)),
        zones=sorted((zone, zone.replace("_", " ")) for zone in zone_names()),
        errors=errors,
    )


HANDLERS = [account_page, change_password, close_session, sign_out_everywhere]

"""Sign-in by password or through the identity provider, and sign-out."""

from typing import Annotated
from urllib.parse import urlsplit

from litestar import Response, get, post
from litestar.datastructures import State
from litestar.params import QueryParameter

from mailing.access import authentication
from mailing.access import sessions as signed
from mailing.access.oidc import OidcState, Provider
from mailing.access.roles import Role
from mailing.admin.forms import form
from mailing.admin.guards import SIGN_IN, public, require_role
from mailing.admin.pages import page, redirect, see_other
from mailing.admin.signin import cookies
from mailing.admin.signin.cookies import AnyRequest
from mailing.admin.viewer import CurrentViewer, local_path
from mailing.database.engine import transaction
from mailing.errors import NotFound, TooMany, Unauthorized
from mailing.web.parameters import Session

CALLBACK_PATH = f"{SIGN_IN}/oidc/back"

Next = Annotated[str, QueryParameter(name="next")]


@get("/sign-in", guards=[public])
async def sign_in_page(request: AnyRequest, next_page: Next = "") -> Response[str]:
    return _page(request, next_page=local_path(next_page))


@post("/sign-in", guards=[public], status_code=303)
async def sign_in(request: AnyRequest, viewer: CurrentViewer, state: State) -> Response[str] | Response[None]:
    """Sign in with a new token, and close the session that the browser had."""
    sent = await form(request)
    next_page, name = local_path(sent.get("next", "")), sent.get("name", "")
    try:
        token = await authentication.sign_in(
            state.sessions, name, sent.get("password", ""), browser=cookies.browser_info(request)
        )
    except Unauthorized as error:
        return _page(request, next_page=next_page, name=name, problem=viewer.gettext(str(error)))
    except TooMany as error:
        return _page(request, next_page=next_page, name=name, problem=viewer.gettext(str(error)), wait_s=error.wait_s)
    return await _start_session(request, state, token, next_page)


@post("/sign-out", guards=[require_role(Role.VIEWER)], status_code=303)
async def sign_out(request: AnyRequest, viewer: CurrentViewer, session: Session) -> Response[None]:
    await authentication.sign_out(session, request.user, cookies.token_of(request))
    return cookies.forget_token(redirect(SIGN_IN, notice=viewer.gettext("You are signed out.")), request)


@get("/sign-in/oidc", guards=[public])
async def begin_oidc(
    request: AnyRequest, viewer: CurrentViewer, next_page: Next = ""
) -> Response[str] | Response[None]:
    """Redirect to the provider. A link, not a form: form-action forbids redirects to other sites."""
    try:
        address, begun = await _provider(request).begin(
            redirect_uri=_redirect_uri(request), next_page=local_path(next_page)
        )
    except Unauthorized as error:
        return _page(request, next_page=local_path(next_page), problem=viewer.gettext(str(error)))
    return cookies.keep_oidc_state(see_other(address), request, begun)


@get("/sign-in/oidc/back", guards=[public])
async def finish_oidc(request: AnyRequest, viewer: CurrentViewer, state: State) -> Response[str] | Response[None]:
    begun = cookies.oidc_state_of(request)
    try:
        token = await _token_from_callback(request, state, begun)
    except Unauthorized as error:
        answer: Response[str] | Response[None] = _page(request, problem=viewer.gettext(str(error)))
    else:
        answer = await _start_session(request, state, token, local_path(begun.next if begun else ""))
    cookies.forget_oidc_state(answer, request)
    return answer


async def _token_from_callback(request: AnyRequest, state: State, begun: OidcState | None) -> str:
    if begun is None:
        raise Unauthorized("This sign-in was not started in this browser or has expired. Start again.")
    answer = dict(request.query_params)
    identity = await _provider(request).finish(answer, begun, redirect_uri=_redirect_uri(request))
    return await authentication.sign_in_as(state.sessions, identity, browser=cookies.browser_info(request))


async def _start_session(request: AnyRequest, state: State, token: str, next_page: str) -> Response[None]:
    async with transaction(state.sessions) as session:
        await signed.close(session, cookies.token_of(request))
    return cookies.keep_token(redirect(next_page), request, token)


def _page(
    request: AnyRequest, *, next_page: str = "/admin/", name: str = "", problem: str = "", wait_s: int = 0
) -> Response[str]:
    answer = page(
        request,
        "signin/sign_in.html",
        status=(429 if wait_s else 400) if problem else 200,
        next_page=next_page,
        name=name,
        problem=problem,
        wait_s=wait_s,
        provider=urlsplit(request.app.state.settings.oidc_issuer or "").hostname,
    )
    if wait_s:
        answer.headers["Retry-After"] = str(wait_s)
    return answer


def _provider(request: AnyRequest) -> Provider:
    provider: Provider | None = request.app.state.provider
    if provider is None:
        raise NotFound("No identity provider is configured. Sign in with a password.")
    return provider


def _redirect_uri(request: AnyRequest) -> str:
    """Return the address of the callback, which must be registered at the provider."""
    return f"{request.url.scheme}://{request.url.netloc}{CALLBACK_PATH}"

"""Sign-in by password or through the identity provider, and sign-out."""

from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from litestar import Response, get
from litestar.params import QueryParameter

from mailing.access import authentication
from mailing.access import sessions as signed
from mailing.access.authentication import OidcState
from mailing.access.state import AccessState, access_state_of
from mailing.admin.forms import form, post_form
from mailing.admin.guards import PUBLIC, SIGN_IN, VIEWER, SignInRequired
from mailing.admin.kept_forms import MAX_SIGN_IN_BYTES, Fields, belongs_to, pack, unpack
from mailing.admin.pages import page, redirect, redirect_to_sign_in, see_other
from mailing.admin.signin import cookies
from mailing.admin.viewer import CurrentViewer, local_path, viewer_of
from mailing.database.engine import in_transaction
from mailing.errors import NotFound, TooMany, Unauthorized
from mailing.web.parameters import Session
from mailing.web.state import AnyRequest

if TYPE_CHECKING:
    from mailing.access.oidc import Provider

CALLBACK_PATH = f"{SIGN_IN}/oidc/back"

Next = Annotated[str, QueryParameter(name="next")]


@get("/sign-in", guards=PUBLIC)
async def sign_in_page(request: AnyRequest, next_page: Next = "") -> Response[str]:
    return _page(request, next_page=local_path(next_page))


def sign_in_required(request: AnyRequest, error: SignInRequired) -> Response[Any]:
    """Show the sign-in page with the filled form in it, or lead there."""
    if not error.fields or "hx-request" in request.headers:
        return redirect_to_sign_in(request, error)
    answer = _page(request, next_page=local_path(viewer_of(request).path), fields=error.fields)
    answer.status_code = 401
    return answer


async def _sign_in(request: AnyRequest, viewer: CurrentViewer, state: AccessState) -> Response[Any]:
    """Sign in with a new token, and close the session that the browser had."""
    sent = await form(request)
    next_page, name, fields = local_path(sent.get("next", "")), sent.get("name", ""), unpack(sent.get("kept", ""))
    try:
        token = await authentication.sign_in(
            state.sessions, name, sent.get("password", ""), browser=cookies.browser_info(request)
        )
    except (Unauthorized, TooMany) as error:
        problem, wait_s = viewer.gettext(str(error)), error.wait_s if isinstance(error, TooMany) else 0
        return _page(request, next_page=next_page, name=name, fields=fields, problem=problem, wait_s=wait_s)
    if fields:
        return await _show_form(request, state, token, next_page, fields)
    return await _start_session(request, state, token, next_page)


sign_in = post_form("/sign-in", guards=PUBLIC)(_sign_in)
sign_in_with_form = post_form("/sign-in/form", guards=PUBLIC, request_max_body_size=MAX_SIGN_IN_BYTES)(_sign_in)


async def _show_form(
    request: AnyRequest, state: AccessState, token: str, next_page: str, fields: Fields
) -> Response[Any]:
    """Return the form to the user who filled it in; another user starts at the beginning."""
    started = await _start_session(request, state, token, "/admin/")
    request.scope["user"] = user = await in_transaction(state.sessions, signed.user_of, token)
    if user is None or not belongs_to(fields, user.id):
        return started
    answer = page(request, "signin/kept.html", next_page=next_page, fields=fields)
    answer.cookies.extend(started.cookies)
    return answer


@post_form("/sign-out", guards=VIEWER)
async def sign_out(request: AnyRequest, viewer: CurrentViewer, session: Session) -> Response[None]:
    await authentication.sign_out(session, request.user, cookies.token_of(request))
    return cookies.forget_token(redirect(SIGN_IN, notice=viewer.gettext("You are signed out.")), request)


@get("/sign-in/oidc", guards=PUBLIC)
async def begin_oidc(request: AnyRequest, viewer: CurrentViewer, next_page: Next = "") -> Response[Any]:
    """Redirect to the provider. A link, not a form: form-action forbids redirects to other sites."""
    try:
        address, begun = await _provider(request).begin(
            redirect_uri=_redirect_uri(request), next_page=local_path(next_page)
        )
    except Unauthorized as error:
        return _page(request, next_page=local_path(next_page), problem=viewer.gettext(str(error)))
    return cookies.keep_oidc_state(see_other(address), request, begun)


@get("/sign-in/oidc/back", guards=PUBLIC)
async def finish_oidc(request: AnyRequest, viewer: CurrentViewer, state: AccessState) -> Response[Any]:
    begun = cookies.oidc_state_of(request)
    try:
        token = await _token_from_callback(request, state, begun)
    except Unauthorized as error:
        answer: Response[Any] = _page(request, problem=viewer.gettext(str(error)))
    else:
        answer = await _start_session(request, state, token, local_path(begun.next if begun else ""))
    cookies.forget_oidc_state(answer, request)
    return answer


async def _token_from_callback(request: AnyRequest, state: AccessState, begun: OidcState | None) -> str:
    if begun is None:
        raise Unauthorized("This sign-in was not started in this browser or has expired. Start again.")
    answer = dict(request.query_params)
    identity = await _provider(request).finish(answer, begun, redirect_uri=_redirect_uri(request))
    return await authentication.sign_in_as(state.sessions, identity, browser=cookies.browser_info(request))


async def _start_session(request: AnyRequest, state: AccessState, token: str, next_page: str) -> Response[None]:
    await in_transaction(state.sessions, signed.close, cookies.token_of(request))
    return cookies.keep_token(redirect(next_page), request, token)


def _page(
    request: AnyRequest,
    *,
    next_page: str = "/admin/",
    name: str = "",
    problem: str = "",
    wait_s: int = 0,
    fields: Fields | None = None,
) -> Response[str]:
    answer = page(
        request,
        "signin/sign_in.html",
        status=(429 if wait_s else 400) if problem else 200,
        next_page=next_page,
        name=name,
        fields=fields or [],
        kept=pack(fields or []),
        problem=problem,
        wait_s=wait_s,
        provider=urlsplit(access_state_of(request).settings.oidc_issuer or "").hostname,
    )
    if wait_s:
        answer.headers["Retry-After"] = str(wait_s)
    return answer


def _provider(request: AnyRequest) -> "Provider":
    provider = access_state_of(request).provider
    if provider is None:
        raise NotFound("No identity provider is configured. Sign in with a password.")
    return provider


def _redirect_uri(request: AnyRequest) -> str:
    """Return the address of the callback, which must be registered at the provider."""
    return f"{request.url.scheme}://{request.url.netloc}{CALLBACK_PATH}"


HANDLERS = [sign_in_page, sign_in, sign_in_with_form, sign_out, begin_oidc, finish_oidc]

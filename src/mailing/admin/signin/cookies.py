"""Cookies: the session token, and the state of a sign-in at the identity provider."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import msgspec
from litestar import Response
from litestar.datastructures import Cookie

from mailing.access.authentication import BrowserInfo, OidcState
from mailing.admin.guards import cookie_name
from mailing.web.state import AnyConnection, AnyRequest

OIDC_STATE_S = 600


def token_of(connection: AnyConnection) -> str:
    return connection.cookies.get(cookie_name(connection), "")


def keep_token(answer: Response[None], request: AnyRequest, token: str) -> Response[None]:
    answer.cookies.append(_cookie(request, cookie_name(request), token))
    return answer


def forget_token(answer: Response[None], request: AnyRequest) -> Response[None]:
    answer.cookies.append(_cookie(request, cookie_name(request), "", max_age=0))
    return answer


def keep_oidc_state(answer: Response[None], request: AnyRequest, begun: OidcState) -> Response[None]:
    value = urlsafe_b64encode(msgspec.json.encode(begun)).decode()
    answer.cookies.append(_cookie(request, _oidc_cookie_name(request), value, max_age=OIDC_STATE_S))
    return answer


def forget_oidc_state(answer: Response[Any], request: AnyRequest) -> None:
    answer.cookies.append(_cookie(request, _oidc_cookie_name(request), "", max_age=0))


def oidc_state_of(request: AnyRequest) -> OidcState | None:
    try:
        return msgspec.json.decode(
            urlsafe_b64decode(request.cookies.get(_oidc_cookie_name(request), "")), type=OidcState
        )
    except (ValueError, msgspec.DecodeError):
        return None


def browser_info(request: AnyRequest) -> BrowserInfo:
    return BrowserInfo(request.client.host if request.client else "", request.headers.get("user-agent", ""))


def _oidc_cookie_name(request: AnyRequest) -> str:
    return f"{cookie_name(request)}_begun"


def _cookie(request: AnyRequest, name: str, value: str, *, max_age: int | None = None) -> Cookie:
    """Build a cookie. Lax, because the identity provider redirects back; forms are checked by `same_origin`."""
    secure = request.url.scheme == "https"
    return Cookie(name, value=value, path="/", httponly=True, samesite="lax", secure=secure, max_age=max_age)

"""What the browser keeps: the session's token, and a sign-in at the identity provider until it is back from there."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie

from mailing.access.authentication import Browser
from mailing.access.oidc import Begun
from mailing.admin.guards import cookie_name

BEGUN_S = 600

AnyRequest = Request[Any, Any, Any]
AnyConnection = ASGIConnection[Any, Any, Any, Any]


def token_of(connection: AnyConnection) -> str:
    return connection.cookies.get(cookie_name(connection), "")


def keep_token(answer: Response[None], request: AnyRequest, token: str) -> Response[None]:
    answer.cookies.append(_cookie(request, cookie_name(request), token))
    return answer


def forget_token(answer: Response[None], request: AnyRequest) -> Response[None]:
    answer.cookies.append(_cookie(request, cookie_name(request), "", max_age=0))
    return answer


def keep_begun(answer: Response[None], request: AnyRequest, begun: Begun) -> Response[None]:
    value = urlsafe_b64encode(msgspec.json.encode(begun)).decode()
    answer.cookies.append(_cookie(request, _begun_name(request), value, max_age=BEGUN_S))
    return answer


def forget_begun(answer: Response[Any], request: AnyRequest) -> None:
    answer.cookies.append(_cookie(request, _begun_name(request), "", max_age=0))


def begun_of(request: AnyRequest) -> Begun | None:
    """None where no sign-in was begun, or where the cookie is not ours."""
    try:
        return msgspec.json.decode(urlsafe_b64decode(request.cookies.get(_begun_name(request), "")), type=Begun)
    except (ValueError, msgspec.DecodeError):
        return None


def browser_of(request: AnyRequest) -> Browser:
    return Browser(request.client.host if request.client else "", request.headers.get("user-agent", ""))


def _begun_name(request: AnyRequest) -> str:
    return f"{cookie_name(request)}_begun"


def _cookie(request: AnyRequest, name: str, value: str, *, max_age: int | None = None) -> Cookie:
    """Lax, because the browser comes back from the identity provider; where forms come from is checked apart."""
    secure = request.url.scheme == "https"
    return Cookie(name, value=value, path="/", httponly=True, samesite="lax", secure=secure, max_age=max_age)

"""The client's address and scheme from a trusted proxy's headers."""

from collections.abc import Awaitable
from typing import Any, cast

from litestar.types import HTTPScope, Receive, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from mailing.web.state import HttpApp

_FOR, _PROTO = b"x-forwarded-for", b"x-forwarded-proto"


class Forwarded:
    """ASGI middleware. The proxies in `trusted` set the scheme and the client's address.

    Only the last address of X-Forwarded-For counts, which the proxy itself wrote. uvicorn alone would skip back over
    all trusted addresses, and a client inside a trusted network could prepend any address.
    """

    def __init__(self, app: HttpApp, *, trusted: list[str] | str) -> None:
        self._app = app
        # uvicorn's Scope is less strict
        self._proxied = cast("HttpApp", ProxyHeadersMiddleware(cast(Any, app), trusted))

    def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> Awaitable[None]:
        # a lifespan, which comes here too, has no headers
        given = [pair for pair in scope.get("headers", ()) if pair[0] == _FOR or pair[0] == _PROTO]
        if not given:
            return self._app(scope, receive, send)
        addresses = [value for name, value in given if name == _FOR]
        if addresses:
            others = [pair for pair in scope["headers"] if pair[0] != _FOR]
            scope["headers"] = [*others, (_FOR, addresses[-1].rpartition(b",")[2].strip())]
        return self._proxied(scope, receive, send)

"""The client's address and scheme from a trusted proxy's headers."""

from typing import Any

from litestar.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

_FOR = b"x-forwarded-for"


class Forwarded:
    """ASGI middleware. The proxies in `trusted` set the scheme and the client's address.

    Only the last address of X-Forwarded-For counts, which the proxy itself wrote. uvicorn alone would skip back over
    all trusted addresses, and a client inside a trusted network could prepend any address.
    """

    def __init__(self, app: ASGIApp, *, trusted: list[str] | str) -> None:
        self._app: Any = ProxyHeadersMiddleware(app, trusted)  # type: ignore[arg-type] # Litestar's Scope is stricter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = [value for name, value in scope.get("headers", ()) if name == _FOR]
        if given:
            others = [pair for pair in scope["headers"] if pair[0] != _FOR]
            scope["headers"] = [*others, (_FOR, given[-1].rpartition(b",")[2].strip())]
        await self._app(scope, receive, send)

"""Whose request it is, as the proxy in front says it."""

from typing import Any

from litestar.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

_FOR = b"x-forwarded-for"


class Forwarded:
    """ASGI middleware. A proxy named in `trusted` is believed about https, and about the address it was asked from.

    Only the last address counts, which that proxy wrote itself. uvicorn alone would go back over every trusted one, and
    a client inside a trusted network could put any address before its own.
    """

    def __init__(self, app: ASGIApp, *, trusted: list[str] | str) -> None:
        self._app: Any = ProxyHeadersMiddleware(app, trusted)  # type: ignore[arg-type] # Litestar's Scope is stricter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        told = [value for name, value in scope.get("headers", ()) if name == _FOR]
        if told:
            others = [pair for pair in scope["headers"] if pair[0] != _FOR]
            scope["headers"] = [*others, (_FOR, told[-1].rpartition(b",")[2].strip())]
        await self._app(scope, receive, send)

"""What every answer says to browsers and proxies, whatever route, page or error it comes from."""

from functools import cache
from typing import Any

from litestar.datastructures import MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.routes import HTTPRoute
from litestar.types import ASGIApp, Message, Receive, Scope, Send

# An answer that is no page loads nothing, runs nothing and stands in no frame; a page brings a policy of its own.
POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

ALWAYS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
PRIVATE = {"Cache-Control": "no-store"}  # of the API's answers: they hold phones and texts
SECURE = {"Strict-Transport-Security": "max-age=31536000"}


class SafeHeaders:
    """ASGI middleware around everything: a header that an answer brings itself stays as it is."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)
            return
        added = _added(scope.get("scheme") == "https", scope["path"].startswith("/mailing/api/"))

        async def send_with_headers(message: Any) -> None:  # noqa: ANN401 - an ASGI event
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in added if pair[0] not in there)]
            await send(message)

        await self.app(scope, receive, send_with_headers)


@cache
def _added(is_secure: bool, is_private: bool) -> list[tuple[bytes, bytes]]:
    headers = ALWAYS | (PRIVATE if is_private else {}) | (SECURE if is_secure else {})
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


class AllMethods:
    """ASGI middleware: Litestar's own answer to OPTIONS names the methods of the path's first handler only."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_methods(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 204:
                here = (route for route in scope["litestar_app"].routes if route.path_format == scope["path_template"])
                methods = {method for route in here if isinstance(route, HTTPRoute) for method in route.methods}
                methods |= {"HEAD"} if "GET" in methods else set()
                MutableScopeHeaders(message)["Allow"] = ", ".join(sorted(methods))
            await send(message)

        await self.app(scope, receive, send_with_methods if scope.get("method") == "OPTIONS" else send)

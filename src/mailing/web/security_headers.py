"""Security headers of every answer."""

from functools import cache
from typing import Any

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

# For answers that are not pages: nothing is loaded, run or framed. Pages set their own policy.
POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

ALWAYS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
PRIVATE = {"Cache-Control": "no-store"}  # for the API: its answers hold phones and texts
SECURE = {"Strict-Transport-Security": "max-age=31536000"}


class SafeHeaders:
    """ASGI middleware around everything. A header that the answer already has is kept."""

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

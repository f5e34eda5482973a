"""HEAD and OPTIONS for every route. Probes, proxies and link checkers send HEAD; browsers ask OPTIONS."""

from collections.abc import Awaitable, Iterable
from typing import Any

from litestar.datastructures import MutableScopeHeaders
from litestar.routes import HTTPRoute
from litestar.types import HTTPReceiveMessage, HTTPScope, Message, Receive, Send, WebSocketReceiveMessage

from mailing.web.state import HttpApp


def allowed(methods: Iterable[str]) -> str:
    """Return the value of `Allow`: where there is GET there is HEAD."""
    names = set(methods)
    return ", ".join(sorted(names | {"HEAD"} if "GET" in names else names))


class AllMethods:
    """ASGI middleware: the handler of GET answers HEAD, and OPTIONS names every method of its path."""

    def __init__(self, app: HttpApp) -> None:
        self.app = app

    def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> Awaitable[None]:
        match scope["method"]:
            case "HEAD":
                return self._answer_head(scope, receive, send)
            case "OPTIONS":
                return self._answer_options(scope, receive, send)
            case _:
                return self.app(scope, receive, send)

    async def _answer_head(self, scope: Any, receive: Receive, send: Send) -> None:  # noqa: ANN401 - an HTTP scope
        """Answer as GET. The server leaves the body out; a stream ends at its head."""
        is_answered = False

        async def send_head(message: Message) -> None:
            nonlocal is_answered
            if message["type"] == "http.response.start":
                await send(message)
            elif not is_answered:
                is_answered = True
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        async def receive_until_answered() -> HTTPReceiveMessage | WebSocketReceiveMessage:
            return {"type": "http.disconnect"} if is_answered else await receive()

        asked: Any = {**scope, "method": "GET"}
        try:
            await self.app(asked, receive_until_answered, send_head)
        finally:
            scope.update(asked | {"method": "HEAD"})  # what the routing found is kept for the request log

    async def _answer_options(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """Complete `Allow`: Litestar names the methods of the path's first handler only."""

        async def send_with_methods(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 204:
                here = (route for route in scope["litestar_app"].routes if route.path_format == scope["path_template"])
                methods = (method for route in here if isinstance(route, HTTPRoute) for method in route.methods)
                MutableScopeHeaders(message)["Allow"] = allowed(methods)
            await send(message)

        await self.app(scope, receive, send_with_methods)

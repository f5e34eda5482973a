"""One log line, span and metric for every request, and the request id in its answer, events and log lines."""

import re
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from mailing.observability import log, tracing

logger = log.get(__name__)

HEADER = "X-Request-ID"
_NAME = HEADER.lower().encode()
_ACCEPTED = re.compile("[A-Za-z0-9._-]{1,64}")
_QUIET = ("/health", "/metrics")  # polled by machines


class RequestLog:
    """ASGI middleware around everything else, so that unrouted requests are logged too."""

    def __init__(self, app: ASGIApp, *, count: Callable[[HTTPScope, int, float], None]) -> None:
        """`count` is called with a request's status and seconds."""
        self.app = app
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.WEBSOCKET:
            await self.app(scope, receive, send)
            return
        request_id, status = _given(scope) or secrets.token_hex(16), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (_NAME, request_id.encode())]
            await send(message)

        with _span(scope) as span, log.log_scope(request_id=request_id) as line:
            try:
                await self.app(scope, receive, answer)
            finally:
                self._count(scope, status or 500, line.seconds)
                span.set(request_id=request_id)
                _write(scope, line, span, status)


def _given(scope: Scope) -> str | None:
    """Return the caller's own request id, if it is safe to log."""
    value = _header(scope, HEADER)
    return value if _ACCEPTED.fullmatch(value) else None


def _header(scope: Scope, name: str) -> str:
    wanted = name.lower().encode()
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == wanted), "")


def _span(scope: HTTPScope) -> AbstractContextManager[tracing.Span]:
    if scope["path"].startswith(_QUIET):
        return nullcontext(tracing.Span())
    return tracing.request(scope["method"], _header(scope, "traceparent"))


def _write(scope: HTTPScope, line: log.WideEvent, span: tracing.Span, status: int) -> None:
    """Write the log line. `status` 0: the request ended without an answer."""
    route = str(scope.get("path_template") or "none")
    fields: dict[str, Any] = {
        "method": scope["method"],
        "route": route,
        "status": status,
        "duration_ms": line.duration_ms,
        "caller": str(scope.get("user") or "nobody"),
    }
    ids = {name: value for name, value in scope.get("path_params", {}).items() if name.endswith("_id")}
    write = logger.debug if route.startswith(_QUIET) else logger.info
    write("request", **(fields | ids | line.fields | line.counts))
    span.set_response(scope["method"], scope.get("path_template"), status)
    span.set(**(ids | line.fields | line.counts))

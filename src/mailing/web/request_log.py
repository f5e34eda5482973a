"""One log line, span and metric for every request, security headers for its answer, and the request's id."""

import os
import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from litestar.types import HTTPScope, Message, Receive, Send

from mailing.observability import log, tracing
from mailing.web.security_headers import safe_headers
from mailing.web.state import HttpApp, first_header

logger = log.get(__name__)

HEADER = "X-Request-ID"
_NAME = HEADER.lower().encode()
_ACCEPTED = re.compile("[A-Za-z0-9._-]{1,64}")
_QUIET = ("/health", "/metrics")  # polled by machines


class RequestLog:
    """ASGI middleware around everything else, so that unrouted requests are logged too."""

    def __init__(self, app: HttpApp, *, count: Callable[[HTTPScope, int, float], None]) -> None:
        """`count` is called with a request's status and seconds."""
        self.app = app
        self._count = count

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        request_id, status, safe = _given(scope) or os.urandom(16).hex(), 0, safe_headers(scope)

        def answer(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                there = {name.lower() for name, _ in message["headers"]}
                added = [pair for pair in safe if pair[0] not in there]
                message["headers"] = [*message["headers"], *added, (_NAME, request_id.encode())]
            return send(message)

        with _span(scope) as span, log.WideEvent(request_id=request_id) as line:
            try:
                await self.app(scope, receive, answer)
            finally:
                self._count(scope, status or 500, line.seconds)
                span.set(request_id=request_id)
                _write(scope, line, span, status)


def _given(scope: HTTPScope) -> str | None:
    """Return the caller's own request id, if it is safe to log."""
    value = first_header(scope, _NAME)
    return value if _ACCEPTED.fullmatch(value) else None


def _span(scope: HTTPScope) -> AbstractContextManager[tracing.Span]:
    if scope["path"].startswith(_QUIET):
        return nullcontext(tracing.Span())
    return tracing.request(scope["method"], first_header(scope, b"traceparent"))


def _write(scope: HTTPScope, line: log.WideEvent, span: tracing.Span, status: int) -> None:
    """Write the log line. `status` 0: the request ended without an answer."""
    route = str(scope.get("path_template") or "none")
    ids = {name: value for name, value in scope.get("path_params", {}).items() if name.endswith("_id")}
    fields: dict[str, Any] = ids | line.fields | line.counts
    write = logger.debug if route.startswith(_QUIET) else logger.info
    caller = str(scope.get("user") or "nobody")
    write(
        "request",
        method=scope["method"],
        route=route,
        status=status,
        duration_ms=line.duration_ms,
        caller=caller,
        **fields,
    )
    span.set_response(scope["method"], scope.get("path_template"), status)
    span.set(**fields)

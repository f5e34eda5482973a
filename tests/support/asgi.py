"""A client of an application in this process."""

from collections.abc import Mapping
from typing import Any

import httpx
from litestar import Litestar


def client_of(app: Litestar, base_url: str = "http://test", **headers: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type] # Litestar's Scope is a stricter TypedDict
    return httpx.AsyncClient(transport=transport, base_url=base_url, headers=headers)


async def break_off(app: Litestar, path: str, begun: bytes, headers: Mapping[str, str]) -> int:
    """Post the beginning of a body and leave; return the status that nobody reads any more."""
    events: Any = iter([{"type": "http.request", "body": begun, "more_body": True}, {"type": "http.disconnect"}])
    answers: list[Any] = []

    async def receive() -> Any:  # noqa: ANN401 - an ASGI event
        return next(events)

    async def send(event: Any) -> None:  # noqa: ANN401 - an ASGI event
        answers.append(event)

    sent = [(name.lower().encode(), value.encode()) for name, value in {"Host": "test", **headers}.items()]
    scope: Any = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": sent}
    await app(scope, receive, send)
    return int(answers[0]["status"])

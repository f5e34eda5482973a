"""An application of this process: a client of it, and its server on a socket."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
from litestar import Litestar

from mailing.web.server import Server, server_config
from mailing.web.state import HttpApp
from support.processes import until


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


@asynccontextmanager
async def served(app: HttpApp, *, lifespan: str = "on", port: int = 0) -> AsyncIterator[str]:
    """Serve it as the API is served, while the block lasts. Yield its address."""
    server = Server(server_config(app, lifespan=lifespan))
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await until(lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await serving

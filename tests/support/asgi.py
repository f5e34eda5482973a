"""A client of an application in this process."""

import httpx
from litestar import Litestar


def client_of(app: Litestar, base_url: str = "http://test", **headers: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type] # Litestar's Scope is a stricter TypedDict
    return httpx.AsyncClient(transport=transport, base_url=base_url, headers=headers)

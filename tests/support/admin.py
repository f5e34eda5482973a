"""Browsers of the admin page, over ASGI."""

from collections.abc import Awaitable, Callable

import httpx
from litestar import Litestar

from mailing.access.roles import Role

SignedIn = Callable[[Role], Awaitable[httpx.AsyncClient]]


def browser_at(app: Litestar) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app),  # type: ignore[arg-type] # Litestar's Scope is a stricter TypedDict
        base_url="http://test",
        headers={"Sec-Fetch-Site": "same-origin", "Accept-Language": "en"},
    )

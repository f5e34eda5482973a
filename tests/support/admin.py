"""The admin page: browsers over ASGI, its handlers, and the form of a mailing."""

import re
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta

import httpx
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from mailing.access.roles import Role
from support.asgi import client_of

Form = dict[str, str | list[str]]
Browser = httpx.AsyncClient
SignedIn = Callable[[Role], Awaitable[Browser]]


def browser_at(app: Litestar) -> Browser:
    return client_of(app, **{"Sec-Fetch-Site": "same-origin", "Accept-Language": "en"})


def admin_handlers(app: Litestar) -> Iterator[tuple[str, str, HTTPRouteHandler]]:
    """Yield method, path and handler; the path has an id that does not exist, or a day long ago."""
    for route in app.routes:
        if isinstance(route, HTTPRoute) and route.path.startswith("/admin"):
            path = re.sub(r"\{[^}]+\}", "999999", re.sub(r"\{[^}]+:date\}", "2000-01-01", route.path))
            for handler in route.route_handlers:
                yield from ((method, path, handler) for method in sorted({*handler.http_methods} - {"OPTIONS"}))


def mailing_form(**changes: str | list[str]) -> Form:
    """Return the form of a mailing for tomorrow, in Moscow's time (UTC+3 all year)."""
    day = datetime.now(UTC).date() + timedelta(days=1)
    times: Form = {"starts_at": f"{day}T10:00", "ends_at": f"{day}T20:00", "zone": "Europe/Moscow"}
    return {"text": "Hello", "window_start": "09:00", "window_end": "21:00"} | times | changes

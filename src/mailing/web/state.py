"""The state of the API process, and the requests that see it, typed: Litestar's own answer every name with `Any`.

`app` fills the state before the first request. A layer above declares what it adds in a subclass of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.types import HTTPScope, Receive, Scope, Send
from sqlalchemy.ext.asyncio import AsyncEngine

from mailing.database.engine import Sessions
from mailing.database.reachability import Reachability
from mailing.database.read_pool import ReadPool
from mailing.settings import Settings
from mailing.web.single_flight import SingleFlight

AnyConnection = ASGIConnection[Any, Any, Any, Any]
AnyRequest = Request[Any, Any, Any]
ApiRequest = Request[str, Any, Any]  # its user is the caller that the guard found
HttpApp = Callable[[HTTPScope, Receive, Send], Awaitable[None]]  # an ASGI application; the server takes no WebSocket


class AppState(State):
    """`readers` are autocommit sessions.

    `exporting` has a pool of its own, so that exports take no connection of other requests. The readiness check has one
    too, so that a used-up pool does not fail it.
    """

    settings: Settings
    reachability: Reachability
    engine: AsyncEngine
    readiness_engine: AsyncEngine
    sessions: Sessions
    readers: Sessions
    reads: ReadPool
    exporting: Sessions
    export_turn: asyncio.Lock
    receipts_expected: bool
    single_flight: SingleFlight


def first_header(scope: Scope, name: bytes) -> str:
    """Return the first value, "" without one. `connection.headers` would parse all of them."""
    for key, value in scope["headers"]:
        if key == name:
            return value.decode("latin-1")
    return ""


def state_of(connection: AnyConnection) -> AppState:
    return cast("AppState", connection.app.state)

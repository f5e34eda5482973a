"""The state of the API process, typed: Litestar's own `State` answers every name with `Any`.

`app` fills it before the first request. A layer above declares what it adds in a subclass of its own.
"""

import asyncio
from typing import Any, cast

from litestar.connection import ASGIConnection
from litestar.datastructures import State
from sqlalchemy.ext.asyncio import AsyncEngine

from mailing.database.engine import Sessions
from mailing.database.read_pool import ReadPool
from mailing.settings import Settings


class AppState(State):
    """`readers` are autocommit sessions. `exporting` has a pool of its own, whose connection takes turns."""

    settings: Settings
    engine: AsyncEngine
    sessions: Sessions
    readers: Sessions
    reads: ReadPool
    exporting: Sessions
    export_turn: asyncio.Lock
    receipts_expected: bool


def state_of(connection: ASGIConnection[Any, Any, Any, Any]) -> AppState:
    return cast("AppState", connection.app.state)

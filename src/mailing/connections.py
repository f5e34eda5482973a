"""Connections that don't hang, whatever becomes of the network, the server or this process.

From the outside in: the server ends a statement that takes too long, and a transaction whose process stands still;
the kernel ends a connection whose bytes nobody acknowledges; whoever takes a connection from the pool asks it for an
answer first, or does what can be done again (`db.Reads`); asyncpg gives up a statement a little later than the server
would have, so that only a connection which is dead gets that far.
"""

import socket
from collections.abc import Callable
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.engine import AdaptedConnection, ExceptionContext
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry

# The database away, or gone in the middle of a statement; the last is a connection that asyncpg itself lost track of.
BROKEN = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

CONNECT_S = 5
PROOF_S = 2
LATER_S = 2  # than the server's own limit of a statement
IDLE_S = 5  # in a transaction: a frozen process holds its locks no longer
LOST_S = 10  # without an acknowledgement the other machine is taken for gone
KEEPALIVE = {"idle": 10, "interval": 5, "count": 3}  # seconds, seconds, probes: 25 s on a connection that is only read

_TCP_OPTIONS = {
    "TCP_KEEPIDLE": KEEPALIVE["idle"],
    "TCP_KEEPALIVE": KEEPALIVE["idle"],  # its name on macOS
    "TCP_KEEPINTVL": KEEPALIVE["interval"],
    "TCP_KEEPCNT": KEEPALIVE["count"],
    "TCP_USER_TIMEOUT": LOST_S * 1000,
}


def arguments(application: str, *, limit_s: float) -> dict[str, Any]:
    """For `asyncpg.connect`. `limit_s` bounds a statement, its waiting for locks included."""
    return {
        "timeout": CONNECT_S,
        "command_timeout": limit_s + LATER_S,
        "server_settings": {
            "application_name": application,
            "timezone": "UTC",
            "jit": "off",  # no statement runs for long enough: compiling the sweep's took 0.2 s of its 0.25
            "statement_timeout": f"{limit_s}s",
            "idle_in_transaction_session_timeout": f"{IDLE_S}s",
            "tcp_user_timeout": f"{LOST_S}s",
            "tcp_keepalives_idle": f"{KEEPALIVE['idle']}s",
            "tcp_keepalives_interval": f"{KEEPALIVE['interval']}s",
            "tcp_keepalives_count": str(KEEPALIVE["count"]),
        },
    }


def watch(engine: AsyncEngine) -> None:
    """In place of SQLAlchemy's pre-ping, which waits as long as any statement may, and costs three round trips."""
    listeners: dict[str, Callable[..., None]] = {
        "connect": _made,
        "checkout": _prove,
        "handle_error": _drop_what_timed_out,
    }
    for name, listener in listeners.items():
        event.listen(engine.sync_engine, name, listener)


_NEW = "new"


def _made(connection: AdaptedConnection, record: ConnectionPoolEntry) -> None:
    record.info[_NEW] = True
    _keep_alive(connection)


def _keep_alive(connection: AdaptedConnection) -> None:
    """A host that vanished sends no reset: without this the kernel would wait for it a quarter of an hour."""
    wire = connection.driver_connection._transport.get_extra_info("socket")  # noqa: SLF001 - asyncpg shows it nowhere else
    if wire.family == getattr(socket, "AF_UNIX", None):
        return
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _TCP_OPTIONS.items():
        if hasattr(socket, name):
            wire.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _prove(connection: AdaptedConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
    """A new one has just answered. Were it refused as well, SQLAlchemy would say that the program misused it."""
    if not record.info.pop(_NEW, False):
        connection.run_async(_answers)


async def _answers(driver: asyncpg.Connection) -> None:
    """Raises InvalidatePoolError: SQLAlchemy replaces this connection, and later each other one of its age."""
    try:
        await driver.execute("SELECT", timeout=PROOF_S)
    except BROKEN as error:
        driver.terminate()
        raise InvalidatePoolError from error


def _drop_what_timed_out(context: ExceptionContext) -> None:
    """Rolling back would wait for asyncpg's cancelling, which takes the same way to the server, for as long again."""
    if isinstance(context.original_exception, TimeoutError):
        context.is_disconnect = True


def was_answered(error: BaseException) -> bool:
    """By the server, over a connection that was good for it."""
    return isinstance(error, asyncpg.PostgresError) and not isinstance(error, asyncpg.PostgresConnectionError)

"""Connections that do not hang, whatever happens to the network, the server or this process.

- The server cancels a statement that takes too long, and ends a transaction whose process is frozen.
- The kernel closes a connection whose data is not acknowledged.
- The pool pings a connection at checkout. `ReadPool` does not ping, because it can repeat its reads, nor does a pool
  with `skip_recent_pings` a connection that has just answered.
- asyncpg gives up a statement a little later than the server would, so that it only happens on a dead connection.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar
from weakref import WeakSet

import asyncpg
from sqlalchemy import event
from sqlalchemy.engine import AdaptedConnection, ExceptionContext
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry

from mailing.database.monotonic import ticks

T = TypeVar("T")

# The database is unavailable or was lost during a statement. InternalClientError: asyncpg lost its own state.
DRIVER_ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

CONNECT_S = 5
PING_S = 2
CLOSE_S = 0.5  # a frozen server does not answer this either
DRIVER_GRACE_S = 2  # added to the server's limit for a statement: the driver's limit
IDLE_IN_TRANSACTION_S = 5  # a frozen process keeps its locks no longer
UNACKED_TIMEOUT_S = 10  # without an acknowledgement the other host counts as gone
# seconds, seconds, probes: a dead idle connection is noticed after 25 s
KEEPALIVE = {"idle": 10, "interval": 5, "count": 3}

_TCP_OPTIONS = {
    "TCP_KEEPIDLE": KEEPALIVE["idle"],
    "TCP_KEEPALIVE": KEEPALIVE["idle"],  # its name on macOS
    "TCP_KEEPINTVL": KEEPALIVE["interval"],
    "TCP_KEEPCNT": KEEPALIVE["count"],
    "TCP_USER_TIMEOUT": UNACKED_TIMEOUT_S * 1000,
}


def install_listeners(
    engine: AsyncEngine, *, set_up: str, on_dead: Callable[[], None], on_answer: Callable[[], None] | None = None
) -> None:
    """Install a ping at checkout, which calls `on_dead` or `on_answer`, and `set_up`, the first statements of new ones.

    SQLAlchemy's own pre-ping may wait as long as any statement, and costs three round trips.
    """
    listeners: dict[str, Callable[..., None]] = {
        "connect": partial(_set_up, set_up),
        "checkout": partial(_ping_on_checkout, on_dead, on_answer),
        "checkin": _end_patience,
        "handle_error": _count_as_lost,
    }
    for name, listener in listeners.items():
        event.listen(engine.sync_engine, name, listener, insert=True)  # before SQLAlchemy's own first statements
    dialect: Any = engine.sync_engine.dialect
    dialect.do_rollback = _roll_back
    dialect.do_close = _close
    dialect.do_terminate = _terminate


_ANSWERED, _RETURNED_AT = "answered", "returned_at"


def skip_recent_pings(engine: AsyncEngine, *, within_s: float) -> None:
    """Don't ping connections that were used in the last `within_s`, unless the server has closed them since.

    For work that is tried again if its connection is dead. Where the event loop is busy, a round trip takes two of its
    turns.
    """
    event.listen(engine.sync_engine, "checkout", partial(_trust_recent, within_s), insert=True)
    event.listen(engine.sync_engine, "checkin", _note_return)


def _trust_recent(within_s: float, connection: AdaptedConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
    is_recent = ticks() - record.info.get(_RETURNED_AT, float("-inf")) < within_s
    if is_recent and not connection.driver_connection.is_closed():
        record.info[_ANSWERED] = True


def _note_return(_connection: AdaptedConnection | None, record: ConnectionPoolEntry) -> None:
    record.info[_RETURNED_AT] = ticks()


def _set_up(statements: str, connection: AdaptedConnection, record: ConnectionPoolEntry) -> None:
    record.info[_ANSWERED] = True
    _keep_alive(connection)
    connection.run_async(partial(_pin, statements))


async def _pin(statements: str, driver: asyncpg.Connection) -> None:
    try:
        await driver.execute(statements, timeout=CONNECT_S)
    except BaseException:
        driver.terminate()  # the pool never got it, so it would stay open
        raise


def _keep_alive(connection: AdaptedConnection) -> None:
    """Notice a host that vanished without a reset: by default, the kernel would wait 15 minutes for it."""
    sock = connection.driver_connection._transport.get_extra_info("socket")  # noqa: SLF001 - asyncpg offers no public way
    if sock.family == getattr(socket, "AF_UNIX", None):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _TCP_OPTIONS.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _ping_on_checkout(
    on_dead: Callable[[], None],
    on_answer: Callable[[], None] | None,
    connection: AdaptedConnection,
    record: ConnectionPoolEntry,
    _proxy: object,
) -> None:
    """Ping a pooled connection. A new one has just answered, and SQLAlchemy would report its failure as misuse."""
    if not record.info.pop(_ANSWERED, False):
        connection.run_async(partial(_ping, on_dead))
    if on_answer:
        on_answer()


async def _ping(on_dead: Callable[[], None], driver: asyncpg.Connection) -> None:
    """Raise InvalidatePoolError if the connection is dead: SQLAlchemy replaces it and others of its age."""
    try:
        await driver.execute("SELECT", timeout=PING_S)
    except DRIVER_ERRORS as error:
        driver.terminate()
        on_dead()
        raise InvalidatePoolError from error


# Connections whose transactions take long: only their own limits end them, not a moment's silence of the database.
EXEMPT_FROM_REACHABILITY: WeakSet[asyncpg.Connection] = WeakSet()


def _end_patience(connection: AdaptedConnection | None, _record: ConnectionPoolEntry) -> None:
    if connection is not None:
        EXEMPT_FROM_REACHABILITY.discard(connection.driver_connection)


def _count_as_lost(context: ExceptionContext) -> None:
    """Drop a connection after a timeout: a rollback would wait as long again, over the same dead connection.

    A refused connection, as by a changed password, also counts as a lost one: the statement is not at fault. So does
    one that only reads, but no other of its pool: it keeps its default_transaction_read_only when that is reset.
    """
    if isinstance(context.original_exception.__cause__, asyncpg.exceptions.ReadOnlySQLTransactionError):
        context.is_disconnect, context.invalidate_pool_on_disconnect = True, False
    if isinstance(context.original_exception, TimeoutError) or context.connection is None:
        context.is_disconnect = True


def _roll_back(connection: Any) -> None:  # noqa: ANN401 - SQLAlchemy hands in more than one kind
    """Roll back, or close the connection if that fails: then the server rolls back.

    It raises nothing, because the caller already has an error, which this one would replace.
    """
    driver = connection.driver_connection
    try:
        if not driver.is_closed():
            connection.rollback()
    except Exception:  # noqa: BLE001 - any kind; SQLAlchemy wraps some in its own classes
        driver.terminate()


def _close(connection: AdaptedConnection) -> None:
    """Close with a limit: the driver would wait as long as for a statement, for each dead connection in turn."""
    connection.run_async(_close_or_terminate)


def _terminate(connection: AdaptedConnection) -> None:
    """Close a connection that was found dead, at once: SQLAlchemy would first try for 2 s to close it well."""
    connection.driver_connection.terminate()


async def _close_or_terminate(driver: asyncpg.Connection) -> None:
    try:
        await driver.close(timeout=CLOSE_S)
    except DRIVER_ERRORS:
        driver.terminate()


def was_answered(error: BaseException) -> bool:
    """Whether the server sent the error, over a working connection."""
    return isinstance(error, asyncpg.PostgresError) and not isinstance(error, asyncpg.PostgresConnectionError)


def is_lost(error: BaseException) -> bool:
    """Whether the connection is unusable, by the driver's error or by the cause of `error`."""
    root = error if isinstance(error, DRIVER_ERRORS) else error.__cause__
    return isinstance(root, DRIVER_ERRORS) and not was_answered(root)


async def fail_if_lost(driver: asyncpg.Connection, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, a COPY, and raise ConnectionResetError if the connection is lost before it is done.

    asyncpg itself waits for the server to accept more data and does not notice the loss.
    """
    lost = asyncio.Event()

    def set_lost(_driver: object) -> None:
        lost.set()

    driver.add_termination_listener(set_lost)
    doing, losing = asyncio.create_task(work), asyncio.create_task(lost.wait())
    doing.add_done_callback(lambda task: task.cancelled() or task.exception())  # it may end after we have continued
    try:
        await asyncio.wait({doing, losing}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            await asyncio.wait({doing}, timeout=1)  # its error may name the cause
        if not doing.done():
            raise ConnectionResetError("the connection was lost while it was written to")
        return await doing
    finally:
        doing.cancel()
        losing.cancel()
        driver.remove_termination_listener(set_lost)

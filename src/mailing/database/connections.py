"""Connections that don't hang, whatever becomes of the network, the server or this process.

From the outside in: the server ends a statement that takes too long, and a transaction whose process stands still;
the kernel ends a connection whose bytes nobody acknowledges; whoever takes a connection from the pool asks it for an
answer first, or does what can be done again (`db.Reads`); asyncpg gives up a statement a little later than the server
would have, so that only a connection which is dead gets that far.

And connections that mean the same on every server: `pins`, the first statement on each connection of either driver. Not
start-up parameters: PgBouncer refuses those, or drops them.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import asyncpg
from sqlalchemy import event
from sqlalchemy.engine import AdaptedConnection, ExceptionContext
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry

T = TypeVar("T")

# The database away, or gone in the middle of a statement; the last is a connection that asyncpg itself lost track of.
DRIVER_ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

CONNECT_S = 5
PING_S = 2
DRIVER_GRACE_S = 2  # than the server's own limit of a statement
IDLE_IN_TRANSACTION_S = 5  # in a transaction: a frozen process holds its locks no longer
UNACKED_TIMEOUT_S = 10  # without an acknowledgement the other machine is taken for gone
KEEPALIVE = {"idle": 10, "interval": 5, "count": 3}  # seconds, seconds, probes: 25 s on a connection that is only read

_TCP_OPTIONS = {
    "TCP_KEEPIDLE": KEEPALIVE["idle"],
    "TCP_KEEPALIVE": KEEPALIVE["idle"],  # its name on macOS
    "TCP_KEEPINTVL": KEEPALIVE["interval"],
    "TCP_KEEPCNT": KEEPALIVE["count"],
    "TCP_USER_TIMEOUT": UNACKED_TIMEOUT_S * 1000,
}


# What correctness needs, whatever `ALTER ROLE … SET`, `ALTER DATABASE … SET` or postgresql.conf say. A name that an
# older server does not know is left out.
_PINNED = {
    "default_transaction_isolation": "read committed",  # guarded UPDATEs look again at a row that somebody changed
    "default_transaction_deferrable": "off",
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",  # psycopg reads no other
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "array_nulls": "on",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "lock_timeout": "0",  # `statement_timeout` contains the wait (decision 9)
    "transaction_timeout": "0",  # a plan or an import takes as long as it takes
    "idle_session_timeout": "0",  # pools hold idle connections on purpose
    "exit_on_error": "off",
    "jit": "off",  # no statement runs for long enough: compiling the sweep's took 0.2 s of its 0.25
    "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_S}s",
    "tcp_user_timeout": f"{UNACKED_TIMEOUT_S}s",
    "tcp_keepalives_idle": f"{KEEPALIVE['idle']}s",
    "tcp_keepalives_interval": f"{KEEPALIVE['interval']}s",
    "tcp_keepalives_count": str(KEEPALIVE["count"]),
}

# `off` and `local` lose what was answered: raised to `on`. `remote_write` and `remote_apply` wait for a standby: kept.
_DURABLE = """
    SELECT pg_catalog.set_config('synchronous_commit', CASE
        WHEN pg_catalog.current_setting('synchronous_commit') IN ('off', 'local') THEN 'on'
        ELSE pg_catalog.current_setting('synchronous_commit') END, false)"""

# Triggers keep counters and transitions. Only a superuser may set this back; anybody else is refused here.
_TRIGGERED = """
    SELECT pg_catalog.set_config('session_replication_role', 'origin', false)
    WHERE pg_catalog.current_setting('session_replication_role') <> 'origin'"""

# The schema that holds our tables: `public`, or another into which the role's own path had once put them.
_SCHEMA = """
    SELECT pg_catalog.set_config('search_path', pg_catalog.quote_ident(coalesce((
        SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = 'mailing_counts' AND c.relkind = 'r' AND EXISTS (
            SELECT FROM pg_catalog.pg_class v WHERE v.relnamespace = n.oid AND v.relname = 'alembic_version')
        ORDER BY pg_catalog.array_position(pg_catalog.current_schemas(false), n.nspname), n.nspname <> 'public',
            n.nspname LIMIT 1), 'public')), false)"""


def pins(limit_s: float) -> str:
    """Statements for a new connection. `limit_s` bounds each later statement, its waiting for locks included."""
    values = ", ".join(f"('{name}', '{value}')" for name, value in _PINNED.items())
    pinned = f"""
    SELECT pg_catalog.set_config(name, value, false) FROM (VALUES {values}) AS pinned (name, value)
    WHERE pg_catalog.current_setting(name, true) IS NOT NULL"""  # noqa: S608 - constants of this module
    return ";".join([f"SET statement_timeout = '{limit_s}s'", pinned, _DURABLE, _TRIGGERED, _SCHEMA])


def connect_args(application: str, *, limit_s: float) -> dict[str, Any]:
    """For `asyncpg.connect`."""
    return {
        "timeout": CONNECT_S,
        "command_timeout": limit_s + DRIVER_GRACE_S,
        "server_settings": {"application_name": application},
    }


def install_listeners(engine: AsyncEngine, *, limit_s: float) -> None:
    """In place of SQLAlchemy's pre-ping, which waits as long as any statement may, and costs three round trips."""
    listeners: dict[str, Callable[..., None]] = {
        "connect": partial(_set_up, pins(limit_s)),
        "checkout": _ping_on_checkout,
        "handle_error": _drop_what_timed_out,
    }
    for name, listener in listeners.items():
        event.listen(engine.sync_engine, name, listener, insert=True)  # before SQLAlchemy's own first statements
    dialect: Any = engine.sync_engine.dialect
    dialect.do_rollback = _roll_back


_NEW = "new"


def _set_up(statements: str, connection: AdaptedConnection, record: ConnectionPoolEntry) -> None:
    record.info[_NEW] = True
    _keep_alive(connection)
    connection.run_async(partial(_pin, statements))


async def _pin(statements: str, driver: asyncpg.Connection) -> None:
    try:
        await driver.execute(statements, timeout=CONNECT_S)
    except BaseException:
        driver.terminate()  # nobody else would: the pool never got it
        raise


def _keep_alive(connection: AdaptedConnection) -> None:
    """A host that vanished sends no reset: without this the kernel would wait for it a quarter of an hour."""
    wire = connection.driver_connection._transport.get_extra_info("socket")  # noqa: SLF001 - asyncpg shows it nowhere else
    if wire.family == getattr(socket, "AF_UNIX", None):
        return
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _TCP_OPTIONS.items():
        if hasattr(socket, name):
            wire.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _ping_on_checkout(connection: AdaptedConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
    """A new one has just answered. Were it refused as well, SQLAlchemy would say that the program misused it."""
    if not record.info.pop(_NEW, False):
        connection.run_async(_ping)


async def _ping(driver: asyncpg.Connection) -> None:
    """Raises InvalidatePoolError: SQLAlchemy replaces this connection, and later each other one of its age."""
    try:
        await driver.execute("SELECT", timeout=PING_S)
    except DRIVER_ERRORS as error:
        driver.terminate()
        raise InvalidatePoolError from error


def _drop_what_timed_out(context: ExceptionContext) -> None:
    """Rolling back would wait for asyncpg's cancelling, which takes the same way to the server, for as long again."""
    if isinstance(context.original_exception, TimeoutError):
        context.is_disconnect = True


def _roll_back(connection: Any) -> None:  # noqa: ANN401 - SQLAlchemy hands in more than one kind
    """What can't be asked to roll back is ended: then the server does it. It raises nothing, because whoever rolls back
    has an error to tell already, and one of the rolling back would be told in its place.
    """
    driver = connection.driver_connection
    try:
        if not driver.is_closed():
            connection.rollback()
    except Exception:  # noqa: BLE001 - of whatever kind; SQLAlchemy has classes of its own for them
        driver.terminate()


def was_answered(error: BaseException) -> bool:
    """By the server, over a connection that was good for it."""
    return isinstance(error, asyncpg.PostgresError) and not isinstance(error, asyncpg.PostgresConnectionError)


def is_lost(error: BaseException) -> bool:
    """Whether the connection is good for nothing any more, as the driver itself tells, or the cause of `error`."""
    root = error if isinstance(error, DRIVER_ERRORS) else error.__cause__
    return isinstance(root, DRIVER_ERRORS) and not was_answered(root)


async def fail_if_lost(driver: asyncpg.Connection, work: Coroutine[Any, Any, T]) -> T:
    """For COPY: asyncpg waits until the server takes more bytes, and does not hear that the connection is gone.

    Raises ConnectionResetError where it goes before `work` is done.
    """
    lost = asyncio.Event()

    def note(_driver: object) -> None:
        lost.set()

    driver.add_termination_listener(note)
    doing, losing = asyncio.create_task(work), asyncio.create_task(lost.wait())
    doing.add_done_callback(lambda task: task.cancelled() or task.exception())  # which may come after we have gone on
    try:
        await asyncio.wait({doing, losing}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            await asyncio.wait({doing}, timeout=1)  # it may know more about the cause
        if not doing.done():
            raise ConnectionResetError("the connection was lost while it was written to")
        return await doing
    finally:
        doing.cancel()
        losing.cancel()
        driver.remove_termination_listener(note)

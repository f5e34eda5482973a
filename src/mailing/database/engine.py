"""The database: engine, sessions, transactions. Importing it does not connect."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from mailing.database import connections
from mailing.database.address import parse
from mailing.database.connection_settings import COMMAND_LIMIT_S, first_statements
from mailing.database.connector import Connector
from mailing.database.reachability import Reachability

Sessions = async_sessionmaker[AsyncSession]
P = ParamSpec("P")
T = TypeVar("T")

# No statement outlives its transaction.
UNPREPARED: dict[str, Any] = {"prepared_statement_cache_size": 0, "prepared_statement_name_func": lambda: ""}


class Base(DeclarativeBase):
    """Models are SQLAlchemy's own: a worker uses them without Advanced Alchemy, which loads all of Litestar."""


def create_engine(
    url: str,
    *,
    application: str,
    pool_size: int,
    limit_s: float = COMMAND_LIMIT_S,
    wait_s: float = 2,
    reachability: Reachability | None = None,
) -> AsyncEngine:
    """Create the connection pool of a process.

    A request that waits for a connection longer than `wait_s` is answered 503. No statement takes longer than
    `limit_s`, except through `raw_connection`. With `reachability`, no statement waits for a database that does not
    answer at all.
    """
    address = parse(url)
    connector = (
        reachability.connector
        if reachability
        else Connector(address, application=application, command_timeout_s=limit_s + connections.DRIVER_GRACE_S)
    )
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=reachability.connect if reachability else connector.connect,
        connect_args=UNPREPARED if address.is_pooled else {},
        pool_size=pool_size,
        max_overflow=0,
        hide_parameters=True,  # phones and texts are among them
        pool_timeout=wait_s,
    )
    set_up = first_statements(address, limit_s=limit_s)
    on_answer = reachability.record_answer if reachability else None
    connections.install_listeners(engine, set_up=set_up, on_dead=connector.suspect_outage, on_answer=on_answer)
    return engine


@asynccontextmanager
async def open_engine(
    url: str, *, application: str, pool_size: int = 1, limit_s: float = COMMAND_LIMIT_S
) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(url, application=application, pool_size=pool_size, limit_s=limit_s)
    try:
        yield engine
    finally:
        await engine.dispose()


def sessions(engine: AsyncEngine) -> Sessions:
    return async_sessionmaker(engine, expire_on_commit=False)


def autocommit_sessions(engine: AsyncEngine) -> Sessions:
    """Create sessions for reads: each statement is its own transaction, without round trips for BEGIN and COMMIT.

    A transaction would not be more consistent: under READ COMMITTED each statement takes its own snapshot. Use
    `read_snapshot` where two statements must agree.
    """
    return async_sessionmaker(engine.execution_options(isolation_level="AUTOCOMMIT"), expire_on_commit=False)


@asynccontextmanager
async def transaction(maker: Sessions) -> AsyncIterator[AsyncSession]:
    """Commit when the block ends, before the caller reports success.

    An error of the block is raised even if the rollback fails too, because the first error names the cause.
    """
    async with _session(maker) as session, session.begin(), _drops_lost_connection(session):
        yield session


async def in_transaction(
    maker: Sessions, work: Callable[Concatenate[AsyncSession, P], Awaitable[T]], *given: P.args, **named: P.kwargs
) -> T:
    """Do `work` in a transaction of its own."""
    async with transaction(maker) as session:
        return await work(session, *given, **named)


@asynccontextmanager
async def autocommit(maker: Sessions) -> AsyncIterator[AsyncSession]:
    """Open a session whose statements commit one by one, so that a process frozen between two of them holds no lock."""
    async with _session(maker) as session, _drops_lost_connection(session):
        await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        yield session


@asynccontextmanager
async def _session(maker: Sessions) -> AsyncIterator[AsyncSession]:
    """Close the session without the task that its own `async with` starts for that: the event loop may be busy."""
    session = maker()
    try:
        yield session
    finally:
        await session.close()


@asynccontextmanager
async def _drops_lost_connection(session: AsyncSession) -> AsyncIterator[None]:
    """SQLAlchemy does not notice such an error, and would use the dead connection again."""
    try:
        yield
    except Exception as error:
        if connections.is_lost(error):
            await session.invalidate()
        raise


async def read_snapshot(session: AsyncSession) -> None:
    """Let all statements of the session read the same moment, and write nothing. Call it before the first."""
    await session.connection(execution_options={"isolation_level": "REPEATABLE READ", "postgresql_readonly": True})


async def raw_connection(session: AsyncSession) -> asyncpg.Connection:
    """Return the asyncpg connection of a session, for COPY and for statements with a `timeout` of their own.

    It works in the session's transaction and raises asyncpg's errors, which `web.problems` handles too.
    """
    await session.execute(text("SET LOCAL statement_timeout = 0"))
    connection = await session.connection()
    return (await connection.get_raw_connection()).driver_connection


async def exempt_from_reachability(session: AsyncSession) -> None:
    """Do not end the session's transaction if the database is silent for a moment (`Reachability`)."""
    connection = await session.connection()
    connections.EXEMPT_FROM_REACHABILITY.add((await connection.get_raw_connection()).driver_connection)


LONG_STATEMENT_S = 900


async def execute_long(session: AsyncSession, statement: str, *values: object) -> int:
    """Execute a statement over many rows, with LONG_STATEMENT_S instead of the pool's limit. Return the row count.

    Parameters in `statement` are `$1`, `$2` …. A million messages take 40 to 90 s.
    """
    command: str = await (await raw_connection(session)).execute(statement, *values, timeout=LONG_STATEMENT_S)
    return int(command.rpartition(" ")[2])


async def fetch_long(session: AsyncSession, statement: str, *values: object) -> list[asyncpg.Record]:
    """Fetch the rows of a statement over many rows, as `execute_long`."""
    rows: list[asyncpg.Record]
    rows = await (await raw_connection(session)).fetch(statement, *values, timeout=LONG_STATEMENT_S)
    return rows


async def analyze_refilled(session: AsyncSession) -> None:
    """Call after many clients or messages were added: PostgreSQL plans badly for a table that was empty before."""
    await session.execute(text("SELECT analyze_refilled()"))

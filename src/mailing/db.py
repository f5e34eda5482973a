"""The database: engine, sessions, migrations. Nothing connects before it is asked to."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg
from advanced_alchemy.base import BasicAttributes
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util import greenlet_spawn

from mailing import connections
from mailing.errors import MailingError
from mailing.ticks import Ticks, ticks

OLDEST = 15  # the oldest that the tests run on
Sessions = async_sessionmaker[AsyncSession]

# Whatever the database's libraries raise, mistakes of this program included: for whoever only tells it to a person.
# Whoever goes on or tries again catches `transient()`. asyncpg's own errors come unwrapped from a COMMIT.
TROUBLE = (DBAPIError, PoolTimeout, *connections.BROKEN)

_HERE = Path(__file__).parent
# in the wheel the migrations lie in the package, in the repository beside src
MIGRATIONS = next(path for path in (_HERE / "migrations", _HERE.parents[1] / "migrations") if path.is_dir())


READ_ONLY = "25006"
# by SQLSTATE, two digits for a whole class: connection, idle, rollback (deadlock), resources, intervention
_PASSING = ("08", "25P03", "40", "53", "55P03", "57", "58", READ_ONLY)
# The last: a migration changed a table under a statement that was prepared before.
_LOST = (
    OSError,
    PoolTimeout,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.exceptions.InvalidCachedStatementError,
)


def is_transient(error: BaseException | None) -> bool:
    """Whether the same may work a moment later: the database is away, too slow, out of something, or the connection was
    lost in the middle. A constraint, a missing table, a wrong value are not: who tried them again would do so for ever.
    """
    root = cause(error)
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    misused = isinstance(root, ValueError)  # asyncpg's DataError is an InterfaceError too
    busy = isinstance(root, _LOST) and not misused
    return lost or busy or sqlstate(error).startswith(_PASSING)


def transient() -> tuple[type[Exception], ...]:
    """For `except`, which evaluates it while an exception is being handled: catches those that `is_transient`."""
    return (Exception,) if is_transient(sys.exception()) else ()


def cause(error: BaseException | None) -> BaseException | None:
    """What asyncpg raised, without SQLAlchemy's own class around it."""
    return error.orig and (error.orig.__cause__ or error.orig) if isinstance(error, DBAPIError) else error


def sqlstate(error: BaseException | None) -> str:
    """Empty where the server did not answer."""
    return str(getattr(cause(error), "sqlstate", None) or "")


@dataclass(frozen=True)
class DatabaseClock:
    """The database's clock between two statements: a process's own clock may be an hour off.

    `at` is the process's time (`ticks`) before `read` was asked for. So it runs ahead by no more than one round trip,
    never behind, and nothing begins too late.
    """

    read: datetime
    at: float
    ticks: Ticks = ticks

    def now(self) -> datetime:
        return self.instant(self.ticks())

    def instant(self, local: float) -> datetime:
        """Of a time of this process."""
        return self.read + timedelta(seconds=local - self.at)

    def at_local(self, instant: datetime) -> float:
        """The process's time of an instant."""
        return self.at + (instant - self.read).total_seconds()


class Base(BasicAttributes, DeclarativeBase):
    pass


def create_engine(url: str, *, application: str, pool_size: int, limit_s: float = 60, wait_s: float = 2) -> AsyncEngine:
    """A pool of its own for each process; a request that finds it empty for `wait_s` is answered 503.

    No statement takes longer than `limit_s`, except through `driver`. `wait_s` bounds the waiting for a connection.
    """
    engine = create_async_engine(
        make_url(url).set(drivername="postgresql+asyncpg"),
        pool_size=pool_size,
        max_overflow=0,
        hide_parameters=True,  # phones and texts are among them
        pool_timeout=wait_s,
        connect_args=connections.arguments(application, limit_s=limit_s),
    )
    connections.watch(engine, limit_s=limit_s)
    return engine


def sessions(engine: AsyncEngine) -> Sessions:
    return async_sessionmaker(engine, expire_on_commit=False)


def readers(engine: AsyncEngine) -> Sessions:
    """Sessions for whoever only reads: each statement stands alone, without asking the server to BEGIN and COMMIT.

    A transaction of several statements would see no more: each takes its own snapshot there too.
    """
    return async_sessionmaker(engine.execution_options(isolation_level="AUTOCOMMIT"), expire_on_commit=False)


READERS = 5  # of the engine's connections, kept for reads; a statement is done within a millisecond as a rule
TURN_S = 5  # longer than it takes whoever has a connection to find it dead and to get a good one


class Reads:
    """Single statements that only read, by the driver itself on connections kept for them (decision 22).

    No connection is asked for an answer first: a read that finds it dead, or hears nothing from it for PROOF_S, is done
    again on one that was asked. Raises asyncpg's errors, as what goes through `driver` does.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._turns = asyncio.Semaphore(READERS)
        self._idle: list[PoolProxiedConnection] = []  # the one used last is taken first

    @property
    def idle(self) -> int:
        """Connections that the engine's pool takes for used."""
        return len(self._idle)

    async def row(self, statement: str, *values: object) -> Any:  # noqa: ANN401 - a record
        """The first one, or None."""
        return next(iter(await self.rows(statement, *values)), None)

    async def rows(self, statement: str, *values: object) -> list[Any]:
        """`statement` has `$1`, `$2` …"""
        await self._turn()
        try:
            return await self._done(statement, values)
        finally:
            self._turns.release()

    async def _turn(self) -> None:
        """Raises TimeoutError; it need not be timed where nobody waits."""
        if self._turns.locked():
            async with asyncio.timeout(TURN_S):
                await self._turns.acquire()
        else:
            await self._turns.acquire()

    async def _done(self, statement: str, values: tuple[object, ...]) -> list[Any]:
        if self._idle:
            try:
                return await self._asked(self._idle.pop(), statement, values, connections.PROOF_S)
            except connections.BROKEN as error:
                if connections.was_answered(error):
                    raise
                self._drop()  # the others are as old
        return await self._asked(await self._engine.raw_connection(), statement, values, None)

    async def _asked(
        self, connection: PoolProxiedConnection, statement: str, values: tuple[object, ...], limit_s: float | None
    ) -> list[Any]:
        """Without a limit of its own it has the connection's."""
        driver: Any = connection.driver_connection
        try:
            rows: list[Any] = await driver.fetch(statement, *values, timeout=limit_s)
        except BaseException as error:
            if connections.was_answered(error):
                self._idle.append(connection)
            else:
                connection.invalidate()
            raise
        self._idle.append(connection)
        return rows

    def _drop(self) -> None:
        while self._idle:
            self._idle.pop().invalidate()

    async def aclose(self) -> None:
        """Gives back what is idle."""
        while self._idle:
            await greenlet_spawn(self._idle.pop().close)


@asynccontextmanager
async def transaction(maker: Sessions) -> AsyncIterator[AsyncSession]:
    """Commits when the block ends, before anybody is told that it worked.

    What the block raises is raised, whatever becomes of undoing it: the first error says why.
    """
    async with maker() as session, session.begin():
        try:
            yield session
        except Exception as error:
            if connections.is_lost(error):
                await session.invalidate()  # the driver's own: SQLAlchemy doesn't know, and would ask a dead connection
            raise


async def driver(session: AsyncSession) -> asyncpg.Connection:
    """The connection under a session: for COPY and for statements that bring a `timeout` of their own.

    What it does is part of the session's transaction. It raises asyncpg's errors, which `web` knows too.
    """
    await session.execute(text("SET LOCAL statement_timeout = 0"))
    connection = await session.connection()
    return (await connection.get_raw_connection()).driver_connection


UNHURRIED_S = 900


async def unhurried(session: AsyncSession, statement: str, *values: object) -> int:
    """As `driver`, for a statement that moves as many rows as there are: it may take UNHURRIED_S, not the pool's limit.

    `statement` has `$1`, `$2` …; returns how many rows it moved. A million messages take 40 to 90 s.
    """
    command: str = await (await driver(session)).execute(statement, *values, timeout=UNHURRIED_S)
    return int(command.rpartition(" ")[2])


async def migrate(engine: AsyncEngine, revision: str = "head") -> None:
    """Brings the schema to `revision`: all steps in one transaction, one process at a time.

    Raises MailingError for a server that is too old, a database in another encoding than UTF8, or a newer schema.
    """
    async with engine.begin() as connection:
        await _refuse_unfit(connection)
        await connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7233150)")
        found = await connection.run_sync(_revision)
        if found is not None and found not in _known():
            raise MailingError(_newer(found))
        await connection.run_sync(_run, revision)


def execute_script(connection: Connection, script: Path) -> None:
    """For migrations: the statements of a file at once, which asyncpg takes only without SQLAlchemy's preparing."""
    raw = connection.connection.dbapi_connection
    raw.run_async(lambda driver: driver.execute(script.read_text("utf-8")))  # type: ignore[union-attr] # asyncpg's own


async def is_current(engine: AsyncEngine) -> bool:
    return await schema_fault(engine) is None


async def schema_fault(engine: AsyncEngine, *, migrate: str = "mailing migrate") -> str | None:
    """A sentence with both revisions and the remedy, of which `migrate` is one; None: the schema is this version's."""
    async with engine.connect() as connection:
        found = await connection.run_sync(_revision)
    needed = _scripts().get_current_head()
    if found == needed:
        return None
    if found is None:
        return f"the database is empty, this program needs schema {needed}; run {migrate}"
    if found in _known():
        return f"the database's schema {found} is older than {needed}, which this program needs; run {migrate}"
    return _newer(found)


def _newer(found: str) -> str:
    needed = _scripts().get_current_head()
    return (
        f"the database's schema {found} is newer than {needed}, this program's; "
        "use the version of Mailing that has migrated it, or a newer one"
    )


async def _refuse_unfit(connection: AsyncConnection) -> None:
    version = int((await connection.exec_driver_sql("SHOW server_version_num")).scalar_one())
    if version < OLDEST * 10_000:
        raise MailingError(f"PostgreSQL {version // 10_000} is too old; {OLDEST} or newer is needed")
    encoding = (await connection.exec_driver_sql("SHOW server_encoding")).scalar_one()
    if encoding != "UTF8":
        raise MailingError(f"the database's encoding is {encoding}; make one with CREATE DATABASE … ENCODING 'UTF8'")


def _run(connection: Connection, revision: str) -> None:
    config = _config()
    config.attributes["connection"] = connection
    if revision == "base":
        command.downgrade(config, revision)
    else:
        command.upgrade(config, revision)


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _known() -> set[str]:
    return {script.revision for script in _scripts().walk_revisions()}


@cache
def _scripts() -> ScriptDirectory:
    """Read once a process: all migrations are loaded for it, which takes a tenth of a second."""
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return config

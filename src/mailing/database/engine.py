"""The database: engine, sessions, transactions. Importing it does not connect."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from advanced_alchemy.base import BasicAttributes
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from mailing.database import connections
from mailing.database.address import parse
from mailing.database.connector import Connector

Sessions = async_sessionmaker[AsyncSession]


class Base(BasicAttributes, DeclarativeBase):
    pass


def create_engine(url: str, *, application: str, pool_size: int, limit_s: float = 60, wait_s: float = 2) -> AsyncEngine:
    """A pool of its own for each process; a request that finds it empty for `wait_s` is answered 503.

    No statement takes longer than `limit_s`, except through `driver`. `wait_s` bounds the waiting for a connection.
    """
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=Connector(
            parse(url), application=application, command_timeout_s=limit_s + connections.LATER_S
        ).connect,
        pool_size=pool_size,
        max_overflow=0,
        hide_parameters=True,  # phones and texts are among them
        pool_timeout=wait_s,
    )
    connections.install_listeners(engine, limit_s=limit_s)
    return engine


def sessions(engine: AsyncEngine) -> Sessions:
    return async_sessionmaker(engine, expire_on_commit=False)


def autocommit_sessions(engine: AsyncEngine) -> Sessions:
    """Sessions for whoever only reads: each statement stands alone, without asking the server to BEGIN and COMMIT.

    A transaction of several statements would see no more: each takes its own snapshot there too.
    """
    return async_sessionmaker(engine.execution_options(isolation_level="AUTOCOMMIT"), expire_on_commit=False)


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


async def raw_connection(session: AsyncSession) -> asyncpg.Connection:
    """The connection under a session: for COPY and for statements that bring a `timeout` of their own.

    What it does is part of the session's transaction. It raises asyncpg's errors, which `web` knows too.
    """
    await session.execute(text("SET LOCAL statement_timeout = 0"))
    connection = await session.connection()
    return (await connection.get_raw_connection()).driver_connection


LONG_STATEMENT_S = 900


async def execute_long(session: AsyncSession, statement: str, *values: object) -> int:
    """As `driver`, for a statement that moves as many rows as there are: it may take UNHURRIED_S, not the pool's limit.

    `statement` has `$1`, `$2` …; returns how many rows it moved. A million messages take 40 to 90 s.
    """
    command: str = await (await raw_connection(session)).execute(statement, *values, timeout=LONG_STATEMENT_S)
    return int(command.rpartition(" ")[2])

"""What a command with a database needs."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import click
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from mailing.cli.runtime import configured, run
from mailing.database.engine import Sessions, open_engine, sessions, transaction
from mailing.database.errors import DATABASE_ERRORS
from mailing.database.schema import schema_fault
from mailing.errors import MailingError
from mailing.process.local_database import require_database
from mailing.settings import Settings

T = TypeVar("T")

CHECK_INTERVAL_S = 0.1  # while a process waits for its database: one refused connection costs a millisecond


def with_database(work: Callable[[Sessions], Awaitable[T]], settings: Settings | None = None) -> T:
    """Run `work` with the configured database, or with the embedded one that `mailing up` uses.

    `settings` are those that a command has loaded already. Raise MailingError if the schema belongs to another version:
    only `migrate`, `up` and `demo` change it.
    """

    async def connected() -> T:
        async with (
            require_database(settings or configured(), echo=lambda line: click.echo(line, err=True)) as url,
            open_engine(url, application="mailing-cli", pool_size=2) as engine,
        ):
            return await work(sessions(engine))

    return run(connected())


def in_transaction(work: Callable[[AsyncSession], Awaitable[T]], settings: Settings | None = None) -> T:
    """Run `work` in a transaction, as `with_database`."""

    async def whole(sessions: Sessions) -> T:
        async with transaction(sessions) as session:
            return await work(session)

    return with_database(whole, settings)


def engine_of(settings: Settings) -> AbstractAsyncContextManager[AsyncEngine]:
    return open_engine(str(settings.database_url), application="mailing-cli")


async def require_schema(settings: Settings, *, wait_s: float = 0) -> None:
    """Wait for the database and this version's schema. Raise the reason if either is missing after `wait_s`."""
    give_up_at = time.monotonic() + wait_s
    async with engine_of(settings) as engine:
        while True:
            try:
                fault = await schema_fault(engine)
                if fault is None:
                    return
                missing: Exception = MailingError(fault)
            except DATABASE_ERRORS as error:
                missing = error
            if time.monotonic() >= give_up_at:
                raise missing
            await asyncio.sleep(CHECK_INTERVAL_S)

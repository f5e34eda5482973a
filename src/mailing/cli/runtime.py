"""What every command needs: settings, an event loop, signals, a database."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import click
import uvloop
from sqlalchemy.ext.asyncio import AsyncEngine

from mailing.database.engine import Sessions, create_engine, sessions, transaction
from mailing.database.errors import DATABASE_ERRORS
from mailing.database.migrations import schema_fault
from mailing.errors import ConfigurationError, MailingError
from mailing.observability import log
from mailing.settings import DOTENV, Settings, load, secrets_of

T = TypeVar("T")


def example(line: str) -> str:
    """Format the example at the end of a command's help."""
    return f"\b\nExample:\n  {line}"


def configured(*needed: str, more: Callable[[Settings], tuple[str, ...]] = lambda _: ()) -> Settings:
    """Load the settings and configure logging. Raise ConfigurationError if a `needed` one is missing.

    `more` are those that follow from other settings.
    """
    settings = load(os.environ, DOTENV)
    missing = [name for name in (*needed, *more(settings)) if getattr(settings, name) is None]
    if missing:
        raise ConfigurationError([f"MAILING_{name.upper()} is needed; set it, see .env.example" for name in missing])
    log.configure(level=settings.log_level, style=settings.log_format, secrets=secrets_of(settings))
    return settings


def run(work: Coroutine[Any, Any, T]) -> T:
    return uvloop.run(work)


async def until_signal(work: Callable[[asyncio.Event], Coroutine[Any, Any, T]]) -> T:
    """Run `work` until SIGTERM or Ctrl-C. A second signal ends the process at once."""
    stop = asyncio.Event()

    def ask() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ask)
    return await work(stop)


async def with_database(settings: Settings, work: Callable[[Sessions], Coroutine[Any, Any, T]]) -> T:
    """Run `work` with the configured database, or with the embedded one that `mailing up` uses.

    Raise MailingError if its schema belongs to another version: only `migrate`, `up` and `demo` change it.
    """
    from mailing.process.local_stack import require_database  # noqa: PLC0415 - slow to import, not every command needs it

    async with require_database(settings, echo=lambda line: click.echo(line, err=True)) as url:
        engine = create_engine(url, application="mailing-cli", pool_size=2)
        try:
            return await work(sessions(engine))
        finally:
            await engine.dispose()


@asynccontextmanager
async def engine_of(settings: Settings) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(str(settings.database_url), application="mailing-cli", pool_size=1)
    try:
        yield engine
    finally:
        await engine.dispose()


async def make_first_user(settings: Settings) -> None:
    """Create the first user before the server starts, to report a wrong setting here. Raise ConfigurationError."""
    from mailing.access import users  # noqa: PLC0415 - as above

    if settings.admin_password:
        async with engine_of(settings) as engine, transaction(sessions(engine)) as session:
            await users.create_first(session, settings.admin_password)


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
            await asyncio.sleep(0.5)

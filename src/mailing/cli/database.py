"""Shared by the commands that use a database."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import click
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.cli.runtime import configured, run
from mailing.database import engine
from mailing.database.engine import Sessions, open_engine, sessions
from mailing.database.schema import require_schema
from mailing.observability import log
from mailing.process.local_database import require_database
from mailing.settings import Settings

T = TypeVar("T")
logger = log.get(__name__)


def with_database(work: Callable[[Sessions], Awaitable[T]], settings: Settings | None = None) -> T:
    """Run `work` with the configured database, or with the embedded one that `mailing up` uses.

    `settings` are those that a command has loaded already. Raise MailingError if the schema belongs to another version:
    only `migrate`, `up` and `demo` change it.
    """

    async def connected() -> T:
        async with (
            require_database(settings or configured(), echo=lambda line: click.echo(line, err=True)) as url,
            open_engine(url, application="mailing-cli", pool_size=2) as opened,
        ):
            return await work(sessions(opened))

    return run(connected())


def in_transaction(work: Callable[[AsyncSession], Awaitable[T]], settings: Settings | None = None) -> T:
    """Run `work` in a transaction, as `with_database`."""
    return with_database(lambda maker: engine.in_transaction(maker, work), settings)


async def wait_for_schema(settings: Settings, wait_s: float, *, limit_s: float) -> None:
    """Wait for the configured database and its schema, and log once what is missing. Raise that after `wait_s`."""

    def tell(error: str) -> None:
        logger.warning("waiting for the database", for_s=wait_s, error=error)

    await require_schema(str(settings.database_url), limit_s=limit_s, wait_s=wait_s, on_wait=tell)

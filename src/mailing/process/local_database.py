"""The configured database, or the embedded one of this machine."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from mailing.database.engine import open_engine
from mailing.database.schema import schema_fault
from mailing.errors import MailingError
from mailing.process import embedded_postgres
from mailing.settings import Settings

Echo = Callable[[str], None]


@asynccontextmanager
async def require_database(settings: Settings, *, echo: Echo) -> AsyncIterator[str]:
    """Provide the configured or the embedded database while the block lasts.

    Raise MailingError if there is none, or its schema belongs to another version.
    """
    if settings.database_url:
        await _require(settings.database_url, migrate="mailing migrate")
        yield settings.database_url
        return
    if not embedded_postgres.exists(data_dir_of(settings)):
        raise MailingError(
            f"there is no database; set MAILING_DATABASE_URL, or run mailing up, "
            f"which creates an embedded one in {data_dir_of(settings)}"
        )
    with embedded_postgres.start(data_dir_of(settings)) as server:
        await _require(server.url, migrate="mailing up")
        async with _keep_running(server, stop=asyncio.Event(), echo=echo):
            yield server.url


@asynccontextmanager
async def create_database(settings: Settings, *, stop: asyncio.Event, echo: Echo) -> AsyncIterator[str]:
    """As `require_database`, but create and migrate the embedded database."""
    if settings.database_url:
        await _require(settings.database_url, migrate="mailing migrate")
        yield settings.database_url
        return
    with embedded_postgres.start(data_dir_of(settings)) as server:
        if not server.binaries.is_package:
            version = f"PostgreSQL {server.binaries.major} from {server.binaries.directory}"
            echo(f"{version}: the embedded one is not installed, or another version created the data")
        await _migrate(server.url)
        async with _keep_running(server, stop=stop, echo=echo):
            yield server.url


@asynccontextmanager
async def _keep_running(server: embedded_postgres.Embedded, *, stop: asyncio.Event, echo: Echo) -> AsyncIterator[None]:
    keeper = asyncio.create_task(embedded_postgres.keep_running(server, stop=stop, on_event=echo))
    try:
        yield
    finally:
        stop.set()
        await keeper


def data_dir_of(settings: Settings) -> Path:
    return Path(settings.data_dir).expanduser().absolute()


async def _require(database_url: str, *, migrate: str) -> None:
    async with open_engine(database_url, application="mailing-cli") as engine:
        if fault := await schema_fault(engine, migrate=migrate):
            raise MailingError(fault)


async def _migrate(database_url: str) -> None:
    async with open_engine(database_url, application="mailing-migrate") as engine:
        if await schema_fault(engine):
            from mailing.database.migrations import migrate  # noqa: PLC0415 - Alembic, which only a new version needs

            await migrate(engine)

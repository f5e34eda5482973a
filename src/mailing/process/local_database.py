"""The configured database, or the embedded one of this machine.

`preparation`, and with it SQLAlchemy, is loaded when a database is asked for: by then `mailing up` has started its
children.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from mailing.errors import MailingError
from mailing.process import embedded_postgres
from mailing.settings import Settings

Echo = Callable[[str], None]


@asynccontextmanager
async def require_database(settings: Settings, *, echo: Echo) -> AsyncIterator[str]:
    """Provide the configured or the embedded database while the block lasts.

    Raise MailingError if there is none, or its schema belongs to another version.
    """
    from mailing.database.schema import require_schema  # noqa: PLC0415 - see above

    if settings.database_url:
        await require_schema(settings.database_url)
        yield settings.database_url
        return
    if not embedded_postgres.exists(data_dir_of(settings)):
        raise MailingError(
            f"there is no database; set MAILING_DATABASE_URL, or run mailing up, "
            f"which creates an embedded one in {data_dir_of(settings)}"
        )
    with embedded_postgres.start(data_dir_of(settings)) as server:
        await require_schema(server.url, migrate="mailing up")
        async with _keep_running(server, stop=asyncio.Event(), echo=echo):
            yield server.url


@asynccontextmanager
async def create_database(settings: Settings, *, stop: asyncio.Event, echo: Echo) -> AsyncIterator[str]:
    """As `require_database`, but create and migrate the embedded database."""
    if settings.database_url:
        async with require_database(settings, echo=echo) as url:
            yield url
        return
    is_new = not embedded_postgres.exists(data_dir_of(settings))
    starting = asyncio.to_thread(embedded_postgres.start, data_dir_of(settings))
    with _short_switch_interval():
        server, upgrade_schema = await asyncio.gather(starting, asyncio.to_thread(_load_upgrade, is_new=is_new))
    with server:
        if not server.binaries.is_package:
            version = f"PostgreSQL {server.binaries.major} from {server.binaries.directory}"
            echo(f"{version}: the embedded one is not installed, or another version created the data")
        await upgrade_schema(server.url)
        async with _keep_running(server, stop=stop, echo=echo):
            yield server.url


def _load_upgrade(*, is_new: bool) -> Callable[[str], Awaitable[None]]:
    """Load what migrates a schema, for a new database with Alembic: while initdb runs rather than after it."""
    from mailing.process.preparation import upgrade_schema  # noqa: PLC0415 - see above

    if is_new:
        import mailing.database.migrations  # noqa: F401, PLC0415 - as above

    return upgrade_schema


@contextmanager
def _short_switch_interval() -> Iterator[None]:
    """Let a thread that loads modules give way within 0.5 ms, not 5, to each thread that returns from a system call.

    Those that start the children and initdb make hundreds of such calls: initdb began 0.5 s later.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@asynccontextmanager
async def _keep_running(server: embedded_postgres.Embedded, *, stop: asyncio.Event, echo: Echo) -> AsyncIterator[None]:
    keeper = asyncio.create_task(embedded_postgres.keep_running(server, stop=stop, on_event=echo))
    try:
        yield
    finally:
        stop.set()
        await keeper


def url_of(settings: Settings) -> str:
    """Return the address of the configured database, or of the embedded one, also before it is created."""
    return settings.database_url or embedded_postgres.url_of(data_dir_of(settings))


def data_dir_of(settings: Settings) -> Path:
    return Path(settings.data_dir).expanduser().absolute()

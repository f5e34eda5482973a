"""Real PostgreSQL for every test: one server a run, the real migrations once, a copied database for each test."""

import asyncio
import os
import socket
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import asyncpg
import httpx
import pytest
import uvicorn
from litestar import Litestar
from litestar.types import ASGIApp
from msgspec.structs import replace
from sqlalchemy import event
from sqlalchemy.engine import AdaptedConnection
from sqlalchemy.ext.asyncio import AsyncEngine

from mailing.app import bind_settings, build_app, create_app
from mailing.database import engine as engine_
from mailing.database.engine import Sessions, create_engine
from mailing.database.migrations import migrate
from mailing.settings import Settings
from processes import until
from roles import grant, url_as
from server import PostgresServer, start_postgres

URL = "MAILING_TEST_DATABASE_URL"
KEY = "a-key-for-the-tests"
LONG = {
    "test_attack",
    "test_broken_off",
    "test_cli",
    "test_clock",
    "test_control",
    "test_crew",
    "test_fairness",
    "test_faults",
    "test_floods",
    "test_gateway_shared",
    "test_operator_in_browser",
    "test_outages",
    "test_outcomes",
    "test_people",
    "test_places",
    "test_recovery",
    "test_release_in_browser",
    "test_restore",
    "test_schema_of_commands",
    "test_site",
    "test_stuck",
    "test_work_per_byte",
}

_server = pytest.StashKey[PostgresServer]()
_spare: list[tuple[Litestar, ASGIApp]] = []


def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: one more than there are processors, because many a test waits for other processes."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins first, so that no processor is without work at the end."""
    items.sort(key=lambda item: item.path.stem not in LONG)


def pytest_configure(config: pytest.Config) -> None:
    """The controlling process starts the server; parallel workers find its address in the environment."""
    if os.environ.get("PYTEST_XDIST_WORKER"):
        return
    config.stash[_server] = server = start_postgres(os.environ.get(URL))
    os.environ[URL] = server.url
    asyncio.run(_make_template(server.url))


def pytest_unconfigure(config: pytest.Config) -> None:
    if server := config.stash.get(_server, None):
        server.stop()


def pytest_report_header(config: pytest.Config) -> str:
    server = config.stash.get(_server, None)
    return f"PostgreSQL: {server.kind}" if server else ""


async def _make_template(url: str) -> None:
    admin = await asyncpg.connect(url)
    await admin.execute("DROP DATABASE IF EXISTS mailing_template WITH (FORCE)")
    await admin.execute("CREATE DATABASE mailing_template")
    await admin.close()
    engine = create_engine(_named(url, "mailing_template"), application="tests", pool_size=1)
    await migrate(engine)
    await engine.dispose()
    await grant(_named(url, "mailing_template"))


def _named(url: str, name: str) -> str:
    base, _, query = url.partition("?")
    return base.rsplit("/", 1)[0] + f"/{name}" + (f"?{query}" if query else "")


@pytest.fixture
async def database_url() -> AsyncIterator[str]:
    """A database of the test's own with the schema in it."""
    name = f"test_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(os.environ[URL])
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE mailing_template STRATEGY file_copy")
    connection = await asyncpg.connect(_named(os.environ[URL], name))
    await connection.execute(
        "UPDATE installation SET database_identity = database_identity()"
    )  # a copy is no restored backup here
    await connection.close()
    yield _named(os.environ[URL], name)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """Its transactions may stand still, as a test needs it."""
    engine = create_engine(database_url, application="tests", pool_size=5)
    event.listen(engine.sync_engine, "connect", _stay)
    yield engine
    await engine.dispose()


def _stay(connection: AdaptedConnection, _record: object) -> None:
    connection.run_async(lambda driver: driver.execute("SET idle_in_transaction_session_timeout = 0"))


@pytest.fixture
def sessions(engine: AsyncEngine) -> Sessions:
    return engine_.sessions(engine)


@pytest.fixture(scope="session", autouse=True)
def _spare_apps() -> None:
    """Made once, before any test has changed anything: one costs more than most tests, and some use two at a time."""
    _spare.extend((app, app.asgi_handler) for app in (build_app(), build_app()))


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, api_key=KEY)


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The whole API in this process, spoken to with a full-rights key."""
    async with running_api(settings) as client:
        yield client


@asynccontextmanager
async def running_api(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        running_app(settings) as app,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app),  # type: ignore[arg-type] # Litestar's Scope is a stricter TypedDict
            base_url="http://test/mailing/api",
            headers={"Authorization": f"Bearer {KEY}"},
        ) as client,
    ):
        yield client


@contextmanager
def _app_with(settings: Settings) -> Iterator[Litestar]:
    """A spare one, furnished anew; where all are in use, a new one."""
    if not _spare:
        yield create_app(settings)
        return
    app, unfurnished_handler = _spare.pop()
    try:
        yield bind_settings(app, settings)
    finally:
        app.asgi_handler = unfurnished_handler
        _spare.append((app, unfurnished_handler))


@asynccontextmanager
async def running_app(settings: Settings) -> AsyncIterator[Litestar]:
    """With the API's own role in the database, so that no test needs more than deploy/roles.sql gives."""
    with _app_with(replace(settings, database_url=url_as("mailing_api", str(settings.database_url)))) as app:
        async with _alive(app):
            yield app


@asynccontextmanager
async def _alive(app: Litestar) -> AsyncIterator[None]:
    """The lifespan in a task of its own: it must end in the task it began in, and a fixture's two halves are two."""
    started, stop = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with app.lifespan():
            started.set()
            await stop.wait()

    task = asyncio.create_task(live())
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        await task
    yield
    stop.set()
    await task


@pytest.fixture
async def address(settings: Settings) -> AsyncIterator[str]:
    """Of the whole service on a socket, for what speaks no ASGI: a browser, Prometheus."""
    server = uvicorn.Server(uvicorn.Config(create_app(settings), lifespan="on", log_config=None))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await until(lambda: server.started, seconds=30)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await serving

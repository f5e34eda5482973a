"""Real PostgreSQL for every test: one server a run, the real migrations once, a copied database for each test."""

import asyncio
import gc
import os
import socket
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Generator, Iterator

import asyncpg
import httpx
import psycopg
import pytest
import uvicorn
from sqlalchemy import event
from sqlalchemy.engine import AdaptedConnection
from sqlalchemy.ext.asyncio import AsyncEngine

from mailing.database import engine as engine_
from mailing.database.engine import Sessions, create_engine
from mailing.settings import Settings
from support.api import KEY, bound_app, build_spare_apps, running_api
from support.distribution import distribute
from support.logs import log_plainly
from support.postgres import URL, PostgresServer, create_database, start_postgres, url_of
from support.processes import until
from support.roles import grant

_server = pytest.StashKey[PostgresServer]()


def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: one more than there are processors, because many a test waits for other processes."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare the garbage collector what stays until the end, modules and tests; then it is as rare as in a worker."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Distribute what the selection by marker has left."""
    if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
        slow, fast = defaultdict[object, list[pytest.Item]](list), defaultdict[object, list[pytest.Item]](list)
        for item in items:
            if item.get_closest_marker("slow"):
                slow[_group(item)].append(item)
            else:
                fast[item.path].append(item)
        items[:] = distribute(list(slow.values()), list(fast.values()), workers)


def _group(item: pytest.Item) -> object:
    group = item.get_closest_marker("xdist_group")
    return group.args[0] if group else item


def pytest_configure(config: pytest.Config) -> None:
    """Start the server in the controlling process; parallel workers find its address in the environment."""
    log_plainly()
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
    await admin.close()
    await grant(await create_database(url, "mailing_template"))


@pytest.fixture(scope="session")
def _server_owner() -> Iterator[psycopg.Connection]:
    """Outlives the tests' event loops, and connects for less than asyncpg."""
    with psycopg.connect(os.environ[URL], autocommit=True) as connection:
        yield connection


@pytest.fixture
def database_url(_server_owner: psycopg.Connection) -> Iterator[str]:
    """Create a database with the schema for this test alone."""
    name = f"test_{uuid.uuid4().hex}"
    url = url_of(os.environ[URL], name)
    _server_owner.execute(f"CREATE DATABASE {name} TEMPLATE mailing_template STRATEGY file_copy".encode())
    with psycopg.connect(url) as own:  # else the copy would count as a restored backup
        own.execute("UPDATE installation SET database_identity = database_identity()")
    yield url
    _server_owner.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


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
def _spare_apps(request: pytest.FixtureRequest) -> None:
    if any("settings" in item.fixturenames or hasattr(item.module, "bound_app") for item in _functions(request)):
        build_spare_apps()


def _functions(request: pytest.FixtureRequest) -> Iterator[pytest.Function]:
    return (item for item in request.session.items if isinstance(item, pytest.Function))


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, api_key=KEY)


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Run the whole API in this process; the client has a full-rights key."""
    async with running_api(settings) as client:
        yield client


@pytest.fixture
async def address(settings: Settings) -> AsyncIterator[str]:
    """Of the whole service on a socket, for what speaks no ASGI: a browser, Prometheus."""
    with bound_app(settings) as app, socket.socket() as listener:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_config=None))
        listener.bind(("127.0.0.1", 0))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await until(lambda: server.started, seconds=30)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await serving

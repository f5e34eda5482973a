"""A database for each test, and the API on it. Only a process that runs tests loads this."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import httpx
import hypothesis
import psycopg
import pytest
from hypothesis import HealthCheck
from sqlalchemy import event
from sqlalchemy.engine import AdaptedConnection
from sqlalchemy.ext.asyncio import AsyncEngine

from mailing.database.engine import Sessions, create_engine
from mailing.settings import Settings
from support import loop_time
from support.api import KEY, bound_app, build_spare_apps, running_api
from support.asgi import served
from support.database import Database
from support.database_copies import DatabaseCopy, kept_connections
from support.failover import Pair, prepared, running_pair
from support.identity_provider import running_provider
from support.logs import log_plainly
from support.postgres import URL, Cluster

# No test fails because the machine is slow.
hypothesis.settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis.settings.load_profile("any speed")

if TYPE_CHECKING:
    from playwright.async_api import Browser


@pytest.fixture(autouse=True)
def _plain_log() -> None:
    """A command that was run in this process has configured the log for itself."""
    log_plainly()


@pytest.fixture(autouse=True)
def _clean_loop(request: pytest.FixtureRequest) -> None:
    """All tests of a process share its loop: kept connections belong to it."""
    if request.node.get_closest_marker("asyncio"):
        request.getfixturevalue("_ended_tasks")


@pytest.fixture
async def _ended_tasks() -> AsyncIterator[None]:
    """Cancel the tasks that a test leaves, and let the loop's time be that of the clock again."""
    others = asyncio.all_tasks()
    yield
    loop_time.follow_clock()
    left = asyncio.all_tasks() - others - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


@pytest.fixture(scope="session")
def _server_owner() -> Iterator[psycopg.Connection]:
    """Outlives the tests' event loops, and connects for less than asyncpg."""
    with psycopg.connect(os.environ[URL], autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
async def _idle_databases(_server_owner: psycopg.Connection) -> AsyncIterator[list[DatabaseCopy]]:
    """Those that no test uses now. They are closed before the loop of their connections."""
    idle: list[DatabaseCopy] = []
    with kept_connections():
        yield idle
        for each in idle:
            each.drop()


@contextmanager
def _lent(server_owner: psycopg.Connection, idle: list[DatabaseCopy]) -> Iterator[str]:
    database = idle.pop() if idle else DatabaseCopy(server_owner, os.environ[URL])
    yield database.url
    if database.empty():
        idle.append(database)
    else:
        database.drop()


@pytest.fixture
def database_url(_server_owner: psycopg.Connection, _idle_databases: list[DatabaseCopy]) -> Iterator[str]:
    """Lend a database with the schema to this test alone."""
    with _lent(_server_owner, _idle_databases) as url:
        yield url


@pytest.fixture(scope="module")
async def module_db(_server_owner: psycopg.Connection, _idle_databases: list[DatabaseCopy]) -> AsyncIterator[Database]:
    """Lend a database to all tests of a module: a fixture of the module fills it, its tests only read."""
    with _lent(_server_owner, _idle_databases) as url:
        async with _open_engine(url) as engine:
            yield Database(engine)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    async with _open_engine(database_url) as engine:
        yield engine


@asynccontextmanager
async def _open_engine(url: str) -> AsyncIterator[AsyncEngine]:
    """Its transactions may stand still, as a test needs it."""
    engine = create_engine(url, application="tests", pool_size=5)
    event.listen(engine.sync_engine, "connect", _stay)
    yield engine
    await engine.dispose()


def _stay(connection: AdaptedConnection, _record: object) -> None:
    connection.run_async(lambda driver: driver.execute("SET idle_in_transaction_session_timeout = 0"))


@pytest.fixture
def db(engine: AsyncEngine) -> Database:
    return Database(engine)


@pytest.fixture
def sessions(db: Database) -> Sessions:
    return db.sessions


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


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Lend what a primary and its standby are copies of."""
    with prepared() as cluster:
        yield cluster


@pytest.fixture
async def pair(cluster: Cluster) -> AsyncIterator[Pair]:
    async with running_pair(cluster) as pair:
        yield pair


@pytest.fixture(scope="session")
async def _started_chromium() -> AsyncIterator["Browser"]:
    from support.browser import chromium  # noqa: PLC0415 - loads playwright

    async with chromium() as browser:
        yield browser


@pytest.fixture
async def chromium(_started_chromium: "Browser") -> AsyncIterator["Browser"]:
    """Lend the process's browser. What a test opens in it is closed after it."""
    yield _started_chromium
    for context in _started_chromium.contexts:
        await context.close()


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with running_provider() as issuer:
        yield issuer


@pytest.fixture
async def address(settings: Settings) -> AsyncIterator[str]:
    """Of the whole service on a socket, for what speaks no ASGI: a browser, Prometheus."""
    with bound_app(settings) as app:
        async with served(app) as address:
            yield address

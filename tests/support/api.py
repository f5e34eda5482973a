"""The whole API in the test's process, over ASGI, with a full-rights key."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx
from litestar import Litestar
from litestar.types import ASGIApp
from msgspec.structs import replace

from mailing.app import bind_settings, build_app, create_app
from mailing.settings import Settings
from support.asgi import client_of
from support.roles import url_as

Api = httpx.AsyncClient
KEY = "a-key-for-the-tests"

_spare: list[tuple[Litestar, ASGIApp]] = []


def build_spare_apps() -> None:
    """Build two before any test has changed anything; some tests need two."""
    _spare.extend((app, app.asgi_handler) for app in (build_app(), build_app()))


@asynccontextmanager
async def running_api(settings: Settings) -> AsyncIterator[Api]:
    async with (
        running_app(settings) as app,
        client_of(app, "http://test/mailing/api", Authorization=f"Bearer {KEY}") as client,
    ):
        yield client


@asynccontextmanager
async def running_app(settings: Settings) -> AsyncIterator[Litestar]:
    """Use the API's own database role: no test may need more than deploy/roles.sql grants."""
    with bound_app(replace(settings, database_url=url_as("mailing_api", str(settings.database_url)))) as app:
        async with _lifespan(app):
            yield app


@contextmanager
def bound_app(settings: Settings) -> Iterator[Litestar]:
    """Lend a spare application, bound to the settings, or build one if all are in use.

    Building one costs more than most tests. Nothing may stay changed in it but `state` and `asgi_handler`.
    """
    if not _spare:
        yield create_app(settings)
        return
    app, unbound_handler = _spare.pop()
    try:
        yield bind_settings(app, settings)
    finally:
        app.asgi_handler = unbound_handler
        _spare.append((app, unbound_handler))


@asynccontextmanager
async def _lifespan(app: Litestar) -> AsyncIterator[None]:
    """Run the lifespan in one task: it must end in the task it began in, and a fixture's two halves run in two."""
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

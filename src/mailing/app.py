"""The API process: routes, documentation, health. A composition root: nobody imports it but the command line."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide

from mailing import db
from mailing.access.keys import require_key
from mailing.clients.routes import clients
from mailing.settings import Settings
from mailing.web import EXCEPTION_HANDLERS, LowerCaseClients, provide_session

POOL_SIZE = 10


def create_app(settings: Settings) -> Litestar:
    """`settings.database_url` must be set and its schema current."""

    @asynccontextmanager
    async def database(app: Litestar) -> AsyncIterator[None]:
        engine = db.create_engine(str(settings.database_url), application="mailing-api", pool_size=POOL_SIZE)
        app.state.engine = engine
        app.state.sessions = db.sessions(engine)
        yield
        await engine.dispose()

    api = Router(
        "/mailing/api",
        route_handlers=[clients],
        guards=[require_key],
        dependencies={"session": Provide(provide_session)},
        security=[{"key": []}],
    )
    return Litestar(
        route_handlers=[api],
        lifespan=[database],
        state=State({"settings": settings}),
        exception_handlers=EXCEPTION_HANDLERS,
        middleware=[LowerCaseClients],
        request_max_body_size=1_000_000,
    )

"""The API process: routes, documentation, health. A composition root, imported by the command line only."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, cast

from litestar import Litestar, Response, Router
from litestar.di import Provide
from litestar.exceptions import MethodNotAllowedException, NotFoundException
from litestar.routes.base import parsers_map
from litestar.types import ASGIApp, HTTPScope, Receive, Send

from mailing.access.api_guards import require_key
from mailing.access.api_keys import KeyCache
from mailing.access.rate_limit import RateLimiter
from mailing.access.state import AccessState
from mailing.admin.pages import unrouted
from mailing.admin.routes import admin
from mailing.clients.routes import clients
from mailing.database import engine as engine_
from mailing.database.connection_settings import API_LIMIT_S
from mailing.database.engine import autocommit_sessions, create_engine
from mailing.database.reachability import Reachability
from mailing.database.read_pool import ReadPool
from mailing.events.routes import list_events
from mailing.gateway.providers import receipts_expected
from mailing.gateway.routes import GatewayController
from mailing.mailings.action_routes import ActionController, preview_mailing, resolve_message, resolve_unknown
from mailing.mailings.after_restore import wake_started
from mailing.mailings.routes import MailingController
from mailing.messages.routes import read_message
from mailing.metrics.routes import MetricsState, ProcessMetrics, metrics
from mailing.observability import tracing
from mailing.receipts.routes import ProviderRequests
from mailing.receipts.serving import ReceiptState, receipt_handler
from mailing.restore.witness import witnessing
from mailing.settings import Settings
from mailing.statistics.routes import StatisticsController
from mailing.web.allowed_hosts import AllowedHosts
from mailing.web.concurrency_limits import ConcurrencyLimit, LimitsState, limit_concurrency
from mailing.web.header_limits import HeaderLimits
from mailing.web.health import health
from mailing.web.host_names import hosts_of
from mailing.web.idempotency import provide_session, replay_or_begin
from mailing.web.methods import AllMethods
from mailing.web.openapi import landing, openapi_config
from mailing.web.parameters import Body, exact_int, known_parameters_only, provide_caller
from mailing.web.problems import EXCEPTION_HANDLERS
from mailing.web.request_log import RequestLog
from mailing.web.responses import StructResponse
from mailing.web.server import BodyTimeout
from mailing.web.single_flight import SingleFlight
from mailing.web.state import ApiRequest, HttpApp
from mailing.web.static_files import static_files

if TYPE_CHECKING:
    from mailing.access.oidc import Provider

POOL_SIZE = 13
EXPORT_POOL_SIZE = 1  # of exports only: they take turns for each page
HEALTH_POOL_SIZE = 2  # of /health/ready only: one in use, and one that may be dead
CONNECTIONS = POOL_SIZE + EXPORT_POOL_SIZE + HEALTH_POOL_SIZE + 1  # of `Reachability`
EXPORT_POOL_WAIT_S = 30  # for the connection of a running export


def create_app(settings: Settings) -> Litestar:
    """`settings.database_url` must be set, and its schema current once the app is served."""
    return bind_settings(build_app(), settings)


def build_app() -> Litestar:
    """Build what does not depend on settings: 200 routes, which take 0.2 s."""
    parsers_map[int] = exact_int  # of `{id:int}` in paths: others are not found
    api = Router(
        "/mailing/api",
        route_handlers=[
            clients,
            MailingController,
            ActionController,
            preview_mailing,
            resolve_unknown,
            StatisticsController,
            read_message,
            resolve_message,
            list_events,
            GatewayController,
        ],
        before_request=authorize,
        dto=Body,
        return_dto=None,
        response_class=StructResponse,
        dependencies={"session": Provide(provide_session), "caller": Provide(provide_caller)},
        security=[{"key": []}],
    )
    app = Litestar(
        route_handlers=[api, admin(), health(), metrics, static_files(), landing],
        openapi_config=openapi_config(),
        lifespan=[database, receipt_handler],
        exception_handlers={**EXCEPTION_HANDLERS, NotFoundException: unrouted, MethodNotAllowedException: unrouted},
        on_shutdown=[tracing.finish],
        request_max_body_size=1_000_000,
        logging_config=None,
    )
    # Litestar's own middleware comes after the routing
    app.asgi_handler = cast("ASGIApp", AllMethods(BodyTimeout(HeaderLimits(LowerCaseClients(app.asgi_handler)))))
    return app


class ApiState(AccessState, LimitsState, MetricsState, ReceiptState):
    """All that one API process holds."""


def bind_settings(app: Litestar, settings: Settings) -> Litestar:
    app.state = state = ApiState()
    state.settings = settings
    state.metrics = ProcessMetrics()
    state.provider = provider_of(settings)
    state.concurrency_limits = {
        "exports": ConcurrencyLimit("exports", total=8, each=2),
        # bytes in temporary files, twice with an Idempotency-Key
        "imports": ConcurrencyLimit("imports", total=4, each=2, max_bytes=250_000_000),
    }
    state.single_flight = SingleFlight()
    state.receipts_expected = receipts_expected(settings)
    state.receipt_handler = None
    hosts = AllowedHosts(app.asgi_handler, known=hosts_of(settings))
    count = state.metrics.count_request
    pages = RequestLog(hosts, count=count)
    requests = ProviderRequests(pages, handler=lambda: state.receipt_handler, count=count)
    app.asgi_handler = cast("ASGIApp", requests)
    return app


@asynccontextmanager
async def database(app: Litestar) -> AsyncIterator[None]:
    state = cast("ApiState", app.state)
    settings = state.settings
    url = str(settings.database_url)
    reachability = Reachability(url, application="mailing-api", limit_s=API_LIMIT_S)
    open_pool = partial(create_engine, url, application="mailing-api", limit_s=API_LIMIT_S)
    engine = open_pool(pool_size=POOL_SIZE, reachability=reachability)
    exporting = open_pool(pool_size=EXPORT_POOL_SIZE, wait_s=EXPORT_POOL_WAIT_S, reachability=reachability)
    state.readiness_engine = open_pool(pool_size=HEALTH_POOL_SIZE)
    state.reachability = reachability
    state.engine = engine
    state.exporting = autocommit_sessions(exporting)
    state.export_turn = asyncio.Lock()
    state.sessions = engine_.sessions(engine)
    state.readers = autocommit_sessions(engine)
    state.reads = ReadPool(engine)
    state.known_keys = KeyCache(state.reads)
    state.allowance = RateLimiter(state.sessions, settings.api_rate)
    lossless = settings.failover == "lossless"
    async with (
        reachability.watching(),
        witnessing(engine, by="api", wake=wake_started, lossless=lossless),
        aclosing(state.reads),
    ):
        yield
    for each in (engine, exporting, state.readiness_engine):
        await each.dispose()


async def authorize(request: ApiRequest) -> Response[bytes] | None:
    """Run all guards of the API. As Litestar guards, each would copy the handler."""
    await require_key(request)
    known_parameters_only(request, request.route_handler)
    await limit_concurrency(request, request.route_handler)
    return await replay_or_begin(request)


def provider_of(settings: Settings) -> "Provider | None":
    if settings.oidc_issuer is None:
        return None
    from mailing.access.oidc import Provider  # noqa: PLC0415 - a tenth of the start, and needed only here

    return Provider.configured(settings)


class LowerCaseClients:
    """ASGI middleware: accept `/mailing/api/Clients`, the spelling of the specification."""

    def __init__(self, app: HttpApp) -> None:
        self.app = app

    def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> Awaitable[None]:
        prefix, path = "/mailing/api/Clients", scope.get("path", "")
        if path == prefix or path.startswith(prefix + "/"):
            scope["path"] = prefix.lower() + path.removeprefix(prefix)
            scope["raw_path"] = scope["path"].encode()
        return self.app(scope, receive, send)

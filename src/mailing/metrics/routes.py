"""`/metrics`: the whole service, read from the database at most every MAX_AGE_S, and this API process."""

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Final

from litestar import Response, get
from litestar.types import HTTPScope
from prometheus_client import CollectorRegistry, Counter, Histogram, Metric, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool

from mailing.database.engine import Sessions, transaction
from mailing.database.errors import transient
from mailing.database.read_pool import ReadPool
from mailing.metrics.exposition import families
from mailing.observability import failures
from mailing.observability.log import get as logger_named
from mailing.web.state import AnyRequest, AppState

logger = logger_named(__name__)

MAX_AGE_S: Final = 5.0
READ_TIMEOUT_S: Final = 3.0
BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class ProcessMetrics:
    """The metrics of this process: its requests, memory and processor time."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry(auto_describe=True)
        self._total = Counter(
            "mailing_http_requests", "Requests answered", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "mailing_http_request_seconds", "How long answers took", ["route"], buckets=BOUNDS_S, registry=registry
        )
        self._of: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}  # looking labels up is half of the work
        ProcessCollector(registry=registry)

    def count_request(self, scope: HTTPScope, status: int, seconds: float) -> None:
        """Count a request by its route's template: the number of paths and methods that clients send is unlimited."""
        route: str = scope.get("path_template") or "unknown"
        method = str(scope.get("method")) if route != "unknown" else "any"
        key = method, route, status
        if key not in self._of:
            self._of[key] = self._total.labels(method, route, str(status)), self._seconds.labels(route)
        total, histogram = self._of[key]
        total.inc()
        histogram.observe(seconds)


async def _read(sessions: Sessions, *, with_receipts: bool) -> list[Metric] | None:
    """Read the metrics of the service. None: the database does not answer."""
    try:
        async with asyncio.timeout(READ_TIMEOUT_S), transaction(sessions) as session:
            return await families(session, with_receipts=with_receipts)
    except transient() as error:
        failures.log(logger, "metrics without the database", error)
        return None


class MetricsState(AppState):
    metrics: ProcessMetrics


class Page(Collector):
    def __init__(self, service: list[Metric] | None, state: MetricsState) -> None:
        self._service = service
        self._state = state

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("mailing_database_up", "1: the database answered", value=self._service is not None)
        yield from self._service or ()
        yield _pool(self._state.engine, self._state.reads)
        yield from self._state.metrics.registry.collect()


def _pool(engine: AsyncEngine, reads: ReadPool) -> Metric:
    family = GaugeMetricFamily("mailing_pool_connections", "This process's pool of connections", labels=["state"])
    pool = engine.pool
    if isinstance(pool, QueuePool):
        family.add_metric(["used"], pool.checkedout() - reads.idle)
        family.add_metric(["size"], pool.size())
    return family


@get("/metrics", include_in_schema=False)
async def metrics(request: AnyRequest, state: MetricsState) -> Response[bytes]:
    """Expose metrics without authentication: they contain no name, phone or text."""
    reader = partial(_read, state.sessions, with_receipts=state.receipts_expected)
    service = await state.single_flight.read("metrics", reader, cache_s=MAX_AGE_S)
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    headers = {"Content-Type": content_type, "Cache-Control": "no-store"}
    return Response(encode(Page(service, state)), headers=headers)

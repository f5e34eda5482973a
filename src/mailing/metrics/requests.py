"""Count the requests to this API process, by route."""

from typing import Final

from litestar.types import HTTPScope
from prometheus_client import CollectorRegistry, Counter, Histogram

BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class RequestMetrics:
    """Counters and latencies of requests, in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._total = Counter(
            "mailing_http_requests", "Requests answered", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "mailing_http_request_seconds", "How long answers took", ["route"], buckets=BOUNDS_S, registry=registry
        )

    def count(self, scope: HTTPScope, status: int, seconds: float) -> None:
        """Count a request by its route's template: the number of paths and methods that clients send is unlimited."""
        route: str = scope.get("path_template") or "unknown"
        method = str(scope.get("method")) if route != "unknown" else "any"
        self._total.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

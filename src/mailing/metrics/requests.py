"""Count the requests to this API process, by route."""

from typing import Final

from litestar.types import HTTPScope
from prometheus_client import CollectorRegistry, Counter, Histogram

BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class RequestMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._total = Counter(
            "mailing_http_requests", "Requests answered", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "mailing_http_request_seconds", "How long answers took", ["route"], buckets=BOUNDS_S, registry=registry
        )
        self._of: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}  # looking labels up is half of the work

    def count(self, scope: HTTPScope, status: int, seconds: float) -> None:
        """Count a request by its route's template: the number of paths and methods that clients send is unlimited."""
        route: str = scope.get("path_template") or "unknown"
        method = str(scope.get("method")) if route != "unknown" else "any"
        key = method, route, status
        if key not in self._of:
            self._of[key] = self._total.labels(method, route, str(status)), self._seconds.labels(route)
        total, histogram = self._of[key]
        total.inc()
        histogram.observe(seconds)

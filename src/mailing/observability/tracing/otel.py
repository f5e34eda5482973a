"""Traces with the packages of the extra `otel`. Imported only if traces are on."""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from structlog.contextvars import bound_contextvars

from mailing import __version__
from mailing.observability.masking import Masking
from mailing.observability.tracing import Span

FINISH_TIMEOUT_S = 3.0  # of the 10 s that a supervisor waits
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_W3C = TraceContextTextMapPropagator()
_HEADER = "traceparent"
_mask = Masking()
_task: ContextVar[str | None] = ContextVar("task", default=None)


class Recorded(Span):
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def set(self, **attributes: object) -> None:
        for name, value in _mask("", "", attributes).items():
            self._span.set_attribute(name, value)

    def set_response(self, method: str, route: str | None, status: int) -> None:
        known = method if method in METHODS else "_OTHER"
        self._span.update_name(f"{known} {route}" if route else known)
        self.set(**{"http.request.method": known, "http.response.status_code": status})
        if route:
            self.set(**{"http.route": route})
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)

    def end(self) -> None:
        self._span.end()


class Traces:
    def __init__(self, process: str) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.ERROR)  # one line for a failed export, not one per retry
        self._exporter = OTLPSpanExporter()
        self._provider = TracerProvider(resource=_resource(process), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("mailing", __version__)

    def finish(self) -> None:
        """Shut down within FINISH_TIMEOUT_S. The SDK would wait 30 s for a collector that does not answer."""
        ending = threading.Thread(target=self._provider.shutdown, name="last-traces", daemon=True)
        ending.start()
        ending.join(FINISH_TIMEOUT_S)
        if ending.is_alive():
            self._exporter.shutdown()  # type: ignore[no-untyped-call] # the SDK's

    def request(self, method: str, traceparent: str | None) -> AbstractContextManager[Span]:
        known = method if method in METHODS else "_OTHER"
        return _current(self._tracer.start_span(known, _context(traceparent), kind=SpanKind.SERVER))

    @contextmanager
    def job(self, task: str, carried: Mapping[str, str]) -> Iterator[Span]:
        before = trace.get_current_span(_context(carried.get("follows"))).get_span_context()
        links = [Link(before)] if before.is_valid else []
        parent = _context(carried.get("parent"))
        span = self._tracer.start_span(task, parent, kind=SpanKind.CONSUMER, links=links)
        token = _task.set(task)
        try:
            with _current(span) as recorded:
                yield recorded
        finally:
            _task.reset(token)

    def carry(self, task: str, *, later: bool) -> dict[str, str]:
        carrier: dict[str, str] = {}
        _W3C.inject(carrier)
        how = "follows" if later or task == _task.get() else "parent"
        return {how: carrier[_HEADER]} if _HEADER in carrier else {}

    def step(self, name: str) -> AbstractContextManager[Span]:
        return _current(self._tracer.start_span(name))

    def begin(self, name: str) -> Span:
        return Recorded(self._tracer.start_span(name))


def _resource(process: str) -> Resource:
    """Describe the service. Attributes from the environment win."""
    own = {"service.name": process, "service.version": __version__}
    return Resource.create({**own, **OTELResourceDetector().detect().attributes})


def _context(traceparent: str | None) -> Context:
    """Parse a header. Without a valid one, return the root of a new trace."""
    return _W3C.extract({_HEADER: traceparent} if traceparent else {}, context=Context())


@contextmanager
def _current(span: trace.Span) -> Iterator[Recorded]:
    """Make a span current. Of an exception, only its class is recorded: its message may repeat values."""
    trace_id = trace.format_trace_id(span.get_span_context().trace_id)
    using = trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False)
    with bound_contextvars(trace_id=trace_id), using:
        try:
            yield Recorded(span)
        except Exception as error:
            span.set_attribute("error.type", type(error).__qualname__)
            span.set_status(StatusCode.ERROR)
            raise

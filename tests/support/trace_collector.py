"""A collector of traces in the test's own process: OTLP over HTTP, decoded by OpenTelemetry's own protocol buffers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


@dataclass(frozen=True)
class Told:
    """A span as it came. `parent` and `links` are the span ids of others; `parent` is empty at a trace's root."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    links: list[str]
    kind: str
    failed: bool
    attributes: dict[str, Any]


@dataclass
class Collector:
    """`answer` is set while it answers; a silent one keeps its callers waiting until the end of the test."""

    url: str
    answer: threading.Event = field(default_factory=threading.Event)
    asked: threading.Event = field(default_factory=threading.Event)
    spans: list[Told] = field(default_factory=list)
    received: str = ""

    def named(self, name: str) -> list[Told]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> Told:
        (span,) = self.named(name)
        return span

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        self.received += str(request)
        for resource in request.resource_spans:
            service = _attributes(resource.resource)["service.name"]
            self.spans += [_told(service, span) for scope in resource.scope_spans for span in scope.spans]


def _told(service: str, span: Span) -> Told:
    return Told(
        service=service,
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        links=[link.span_id.hex() for link in span.links],
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        attributes=_attributes(span),
    )


def _attributes(of: Any) -> dict[str, Any]:  # noqa: ANN401 - a span or a resource
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in of.attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.asked.set()
            collector.answer.wait()
            if self.path == "/v1/traces":
                collector.take(body)
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        collector.answer.set()
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        try:
            yield collector
        finally:
            collector.answer.set()
            server.shutdown()

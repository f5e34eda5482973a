"""OpenTelemetry traces, sent to `OTEL_EXPORTER_OTLP_ENDPOINT`.

If that is unset, nothing of OpenTelemetry is imported and a span costs one name lookup. docs/tracing.md lists every
span and attribute.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from mailing.errors import ConfigurationError

if TYPE_CHECKING:
    from mailing.observability.tracing.otel import Traces

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SUPPORTED = "http/protobuf"

_traces: "Traces | None" = None


class Span:
    """A span that is not recorded, as every span while traces are off."""

    def set(self, **attributes: object) -> None:
        """Set attributes: never a phone, a text or a secret. What looks like one is masked, as in the logs."""

    def set_response(self, method: str, route: str | None, status: int) -> None:
        """Set the name and status of a request's span. `route` is the template, never the path."""

    def end(self) -> None:
        """End a span started by `begin`."""


_NO_SPAN = Span()
_NO_SCOPE = nullcontext(_NO_SPAN)


def start(process: str, environ: Mapping[str, str]) -> None:
    """Start tracing if it is configured. Call it once, at a composition root.

    `process` is the service name unless OTEL_SERVICE_NAME is set. The SDK reads endpoint, headers, sampler and the rest
    from the process's environment. Raise ConfigurationError if traces are configured and cannot be sent.
    """
    global _traces  # noqa: PLW0603 - one for the process, like its log
    if not _wanted(environ):
        return
    if next((environ[name] for name in _PROTOCOLS if environ.get(name)), _SUPPORTED) != _SUPPORTED:
        raise ConfigurationError([f"OTEL_EXPORTER_OTLP_PROTOCOL must be {_SUPPORTED}; traces are sent over HTTP only"])
    try:
        from mailing.observability.tracing.otel import Traces  # noqa: PLC0415 - imported only if traces are on
    except ImportError:
        raise ConfigurationError(
            ["OTEL_EXPORTER_OTLP_ENDPOINT is set and OpenTelemetry is not installed; pip install 'mailing[otel]'"]
        ) from None
    _traces = Traces(process)


def _wanted(environ: Mapping[str, str]) -> bool:
    return (
        any(environ.get(name) for name in _ENDPOINTS)
        and environ.get("OTEL_SDK_DISABLED", "").lower() != "true"
        and environ.get("OTEL_TRACES_EXPORTER", "otlp") != "none"
    )


def finish() -> None:
    """Send the remaining spans, within 3 s."""
    global _traces
    traces, _traces = _traces, None
    if traces:
        traces.finish()


def request(method: str, traceparent: str | None) -> AbstractContextManager[Span]:
    """Open the span of a request; `traceparent` is the caller's header. Lines logged within it have `trace_id`."""
    return _traces.request(method, traceparent) if _traces else _NO_SCOPE


def job(task: str, carried: Mapping[str, str]) -> AbstractContextManager[Span]:
    """Open the span of a job; `carried` comes from `carry`. Lines logged within it have `trace_id`."""
    return _traces.job(task, carried) if _traces else _NO_SCOPE


def carry(task: str, *, later: bool) -> dict[str, str]:
    """Return the trace context for a job that is being enqueued. Empty without a current span.

    The job's span becomes a child of the current one. A job for later, or of the same task, starts a trace of its own
    with a link instead: a trace as long as a mailing would be unreadable.
    """
    return _traces.carry(task, later=later) if _traces else {}


def step(name: str) -> AbstractContextManager[Span]:
    """Open a span for a part of the current job."""
    return _traces.step(name) if _traces else _NO_SCOPE


def begin(name: str) -> Span:
    """Start a span for a part of the current job that runs beside others. The caller ends it."""
    return _traces.begin(name) if _traces else _NO_SPAN

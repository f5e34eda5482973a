"""Traces by OpenTelemetry, where `OTEL_EXPORTER_OTLP_ENDPOINT` says whom to send them to.

Without it nothing of OpenTelemetry is imported, and a span costs a look at one name. docs/tracing.md names every span
and attribute.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from mailing.errors import ConfigurationError

if TYPE_CHECKING:
    from mailing.observability.tracing.otel import Traces

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SPOKEN = "http/protobuf"

_traces: "Traces | None" = None


class Span:
    """One that nobody records: every span while traces are off."""

    def tell(self, **attributes: object) -> None:
        """Never a phone, a text or a secret; what looks like one is masked, as in the logs."""

    def answered(self, method: str, route: str | None, status: int) -> None:
        """Of a request: its name, and whether it failed. `route` is the template, never the path."""

    def end(self) -> None:
        """Of one that `begin` began."""


_NOBODYS = Span()
_UNSEEN = nullcontext(_NOBODYS)


def start(process: str, environ: Mapping[str, str]) -> None:
    """Call once, at a composition root; `process` names it where OTEL_SERVICE_NAME doesn't.

    The endpoint, headers, sampler and the rest are read by the SDK, from the process's own environment. Raises
    ConfigurationError where traces are wanted and can't be sent.
    """
    global _traces  # noqa: PLW0603 - one for the process, as its log is
    if not _wanted(environ):
        return
    if next((environ[name] for name in _PROTOCOLS if environ.get(name)), _SPOKEN) != _SPOKEN:
        raise ConfigurationError([f"OTEL_EXPORTER_OTLP_PROTOCOL must be {_SPOKEN}: traces are sent over HTTP only"])
    try:
        from mailing.observability.tracing.otel import Traces  # noqa: PLC0415 - only where traces are wanted
    except ImportError:
        raise ConfigurationError(
            ["OTEL_EXPORTER_OTLP_ENDPOINT is set and OpenTelemetry is not installed: pip install 'mailing[otel]'"]
        ) from None
    _traces = Traces(process)


def _wanted(environ: Mapping[str, str]) -> bool:
    return (
        any(environ.get(name) for name in _ENDPOINTS)
        and environ.get("OTEL_SDK_DISABLED", "").lower() != "true"
        and environ.get("OTEL_TRACES_EXPORTER", "otlp") != "none"
    )


def finish() -> None:
    """Sends what is left, within 3 s."""
    global _traces
    traces, _traces = _traces, None
    if traces:
        traces.finish()


def request(method: str, traceparent: str | None) -> AbstractContextManager[Span]:
    """`traceparent`: the caller's header. The lines logged meanwhile have `trace_id`."""
    return _traces.request(method, traceparent) if _traces else _UNSEEN


def job(task: str, carried: Mapping[str, str]) -> AbstractContextManager[Span]:
    """`carried` is what `carry` gave to whoever woke it. The lines logged meanwhile have `trace_id`."""
    return _traces.job(task, carried) if _traces else _UNSEEN


def carry(task: str, *, later: bool) -> dict[str, str]:
    """For the job that is being enqueued: where it belongs. Empty where there is no span under way.

    It becomes a child of the span under way. One for later, or the same task again, begins a trace of its own and is
    linked: a trace that goes on for as long as a mailing does could not be looked at.
    """
    return _traces.carry(task, later=later) if _traces else {}


def step(name: str) -> AbstractContextManager[Span]:
    """A part of the job under way."""
    return _traces.step(name) if _traces else _UNSEEN


def begin(name: str) -> Span:
    """A part of the job under way that others go on beside; whoever began it ends it."""
    return _traces.begin(name) if _traces else _NOBODYS

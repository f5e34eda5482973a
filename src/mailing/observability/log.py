"""Structured logs: one event per line, with the ids of the database, without phones, texts and tokens.

docs/logging.md lists every event and key. Log records of libraries take the same format.
"""

import json
import logging
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import Literal, TextIO

import msgspec
import structlog
from structlog.contextvars import bound_contextvars, get_contextvars

from mailing.observability.masking import Masking, render_exception

# our own lines report each request, job and call
QUIET_LOGGERS = ("procrastinate", "uvicorn", "uvicorn.access", "httpx", "httpcore", "aiohttp", "alembic", "asyncio")

_line: ContextVar["WideEvent | None"] = ContextVar("line", default=None)


def configure(*, level: str, style: Literal["console", "json"], secrets: Collection[str] = ()) -> None:
    """Configure logging. Call it once, at a composition root. `secrets` are masked wherever they appear."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.types.Processor = (
        _render_json if style == "json" else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    last: list[structlog.types.Processor] = [render_exception, Masking(secrets), renderer]
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=partial(_Output, sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    others = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=others))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(threshold)
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))


_encode = msgspec.json.Encoder(enc_hook=repr).encode


def _render_json(_logger: object, _level: str, event: Mapping[str, object]) -> str:
    """Render a line in a tenth of the time of `json`, which alone takes lone surrogates."""
    try:
        return _encode(event).decode()
    except UnicodeEncodeError:
        return json.dumps(event, default=repr)


class _Output:
    """Write our own rendered lines. Through `logging`, each would cost twice as much.

    A line that cannot be written, to a full disk or a closed pipe, is dropped without an error, as in `logging`.
    """

    def __init__(self, file: TextIO, *_names: str) -> None:
        self._file = file

    def write(self, line: str) -> None:
        with suppress(OSError, ValueError):
            self._file.write(f"{line}\n")
            self._file.flush()

    debug = info = warning = error = critical = write


def get(name: str) -> structlog.stdlib.BoundLogger:
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger


def request_id() -> str | None:
    """Return the id of the current request."""
    found: str | None = get_contextvars().get("request_id")
    return found


@contextmanager
def worker_context(worker: int | None) -> Iterator[None]:
    """Add the worker's number to every line, if several run under one supervisor."""
    with bound_contextvars(**({} if worker is None else {"worker": worker})):
        yield


class WideEvent:
    """The one log line about a request or a job, written at its end. Until then it collects fields and counts."""

    def __init__(self) -> None:
        self.fields: dict[str, object] = {}
        self.counts: dict[str, int] = {}
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started

    @property
    def duration_ms(self) -> float:
        return round(self.seconds * 1000, 1)


@contextmanager
def log_scope(**ids: object) -> Iterator[WideEvent]:
    """Add `ids` to every line logged within the block."""
    event = WideEvent()
    token = _line.set(event)
    try:
        with bound_contextvars(**ids):
            yield event
    finally:
        _line.reset(token)


def add_fields(**ids: object) -> None:
    """Add fields to the log line of the current request or job."""
    if current := _line.get():
        current.fields |= ids


def increment(**counted: int) -> None:
    """Add to the counts in the log line of the current request or job."""
    if current := _line.get():
        for name, number in counted.items():
            current.counts[name] = current.counts.get(name, 0) + number

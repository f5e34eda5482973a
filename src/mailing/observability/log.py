"""Structured logs: one event per line, with the ids of the database, without phones, texts and tokens.

docs/logging.md lists every event and key. Log records of libraries take the same format.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Collection, MutableMapping
from contextlib import AbstractContextManager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, Self, TextIO

import msgspec
import structlog
from structlog.contextvars import bound_contextvars

from mailing.observability.masking import Masking, render_exception

# our own lines report each request, job and call
QUIET_LOGGERS = ("procrastinate", "uvicorn", "uvicorn.access", "httpx", "httpcore", "aiohttp", "alembic", "asyncio")

get = structlog.stdlib.get_logger

_line: ContextVar["WideEvent | None"] = ContextVar("line", default=None)


def configure(*, level: str, style: Literal["console", "json"], secrets: Collection[str] = ()) -> None:
    """Configure logging. Call it once, at a composition root. `secrets` are masked wherever they appear."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_ids,
        structlog.processors.add_log_level,
    ]
    rendering: list[structlog.types.Processor] = [_render_json]
    if style == "console":
        stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
        colors = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
        rendering = [stamp, structlog.dev.ConsoleRenderer(colors=colors)]
    last: list[structlog.types.Processor] = [render_exception, Masking(secrets), *rendering]
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
    # its warnings repeat `no answer from the database`, twice a second
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


def cache_loggers() -> None:
    """Assemble each logger once, not for each line. For a process that does not configure its log again."""
    structlog.configure(cache_logger_on_first_use=True)


_encode = msgspec.json.Encoder(enc_hook=repr).encode


def _render_json(_logger: object, _level: str, event: MutableMapping[str, Any]) -> str:
    """Render a line with its time, in a tenth of the time of `json`, which alone takes lone surrogates."""
    event["timestamp"] = datetime.now(UTC)
    try:
        return _encode(event).decode()
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(event, enc_hook=repr))


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


def request_id() -> str | None:
    current = _line.get()
    return current.ids.get("request_id") if current else None


def worker_context(worker: int | None) -> AbstractContextManager[None]:
    """Add the worker's number to every line, if several run under one supervisor."""
    return bound_contextvars(**({} if worker is None else {"worker": worker}))


class WideEvent:
    """The one log line about a request or a job, written at its end. Until then it collects fields and counts.

    Within its block, `ids` are added to every line.
    """

    def __init__(self, **ids: object) -> None:
        self.ids: dict[str, Any] = ids
        self.fields: dict[str, object] = {}
        self.counts: dict[str, int] = {}
        self._started = time.perf_counter()

    def __enter__(self) -> Self:
        self._token = _line.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _line.reset(self._token)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started

    @property
    def duration_ms(self) -> float:
        return round(self.seconds * 1000, 1)


def _add_ids(_logger: object, _level: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    current = _line.get()
    return {**current.ids, **event} if current else event


def add_fields(**ids: object) -> None:
    """Add fields to the log line of the current request or job."""
    if current := _line.get():
        current.fields |= ids


def increment(**counted: int) -> None:
    """Add to the counts in the log line of the current request or job."""
    if current := _line.get():
        for name, number in counted.items():
            current.counts[name] = current.counts.get(name, 0) + number

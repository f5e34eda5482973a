"""Structured logs: one event a line, the same ids as in the database, no phone, no text, no token.

`docs/logging.md` names every event and key. What a library logs goes the same way.
"""

import logging
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import Literal, TextIO

import structlog
from structlog.contextvars import bound_contextvars, get_contextvars

from mailing.observability.masking import Masking, render_exception

# told by our own lines: each request, each job, each call
QUIET_LOGGERS = ("procrastinate", "uvicorn", "uvicorn.access", "httpx", "httpcore", "aiohttp", "alembic", "asyncio")

_line: ContextVar["WideEvent | None"] = ContextVar("line", default=None)


def configure(*, level: str, style: Literal["console", "json"], secrets: Collection[str] = ()) -> None:
    """Call once, at a composition root. `secrets` are hidden, wherever one turns up."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    last: list[structlog.types.Processor] = [render_exception, Masking(secrets), renderer]
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=partial(_Lines, sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    others = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=others))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(threshold)
    for chatty in QUIET_LOGGERS:
        logging.getLogger(chatty).setLevel(max(threshold, logging.WARNING))


class _Lines:
    """Where our own lines end, rendered already: by way of `logging` each would cost twice as much.

    One that can't be written, to a full disk or a closed pipe, is lost, and nothing else with it: as `logging` has it.
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
    """Of the request under way."""
    found: str | None = get_contextvars().get("request_id")
    return found


@contextmanager
def worker_context(worker: int | None) -> Iterator[None]:
    """Every line has the worker's number, where several run under one supervisor."""
    with bound_contextvars(**({} if worker is None else {"worker": worker})):
        yield


class WideEvent:
    """The one line about a request or a job, written when it is over; until then it gathers what to tell."""

    def __init__(self) -> None:
        self.told: dict[str, object] = {}
        self.counts: dict[str, int] = {}
        self._begun = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._begun

    @property
    def duration_ms(self) -> float:
        return round(self.seconds * 1000, 1)


@contextmanager
def log_scope(**ids: object) -> Iterator[WideEvent]:
    """Every line written meanwhile has `ids` too."""
    begun = WideEvent()
    token = _line.set(begun)
    try:
        with bound_contextvars(**ids):
            yield begun
    finally:
        _line.reset(token)


def add_fields(**ids: object) -> None:
    """What the request or job under way is about, for its line."""
    if current := _line.get():
        current.told |= ids


def increment(**counted: int) -> None:
    """What the request or job under way has done, for its line: added up."""
    if current := _line.get():
        for name, number in counted.items():
            current.counts[name] = current.counts.get(name, 0) + number

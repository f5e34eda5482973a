"""The log as one process writes it, read back."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

import structlog

from mailing.observability import log
from mailing.settings import Settings, secrets_of

Lines = Callable[..., list[dict[str, Any]]]


def log_plainly() -> None:
    """Log as structlog does by default, but without rich: with it, a traceback took 0.1 to 1 s of processor time.

    The log of libraries is left to pytest.
    """
    logging.getLogger().handlers = []
    structlog.reset_defaults()
    *processors, _ = structlog.get_config()["processors"]
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*processors, plain])


@contextmanager
def logged(settings: Settings) -> Iterator[Lines]:
    """As JSON, from debug on; what it yields gives the lines of one event, or all."""
    root, written = logging.getLogger(), io.StringIO()
    level = root.level
    with redirect_stderr(written):
        log.configure(level="debug", style="json", secrets=secrets_of(settings))

    def read(event: str | None = None) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in written.getvalue().splitlines()]
        return [line for line in lines if event in {None, line["event"]}]

    try:
        yield read
    finally:
        root.level = level
        log_plainly()

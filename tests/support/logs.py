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


@contextmanager
def logged(settings: Settings) -> Iterator[Lines]:
    """As JSON, from debug on; what it yields gives the lines of one event, or all."""
    root, written = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers, root.level
    with redirect_stderr(written):
        log.configure(level="debug", style="json", secrets=secrets_of(settings))

    def read(event: str | None = None) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in written.getvalue().splitlines()]
        return [line for line in lines if event in {None, line["event"]}]

    try:
        yield read
    finally:
        root.handlers, root.level = handlers, level
        structlog.reset_defaults()

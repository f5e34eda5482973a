"""Shared by all commands: settings, event loop, signals."""

import asyncio
import gc
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import uvloop

from mailing.errors import ConfigurationError
from mailing.observability import log
from mailing.process.supervisor import on_signal_to_end
from mailing.settings import DOTENV, Settings, load, secrets_of

T = TypeVar("T")


def configured(*needed: str, problems_of: Callable[[Settings], list[str]] = lambda _: []) -> Settings:
    """Load the settings and configure logging. Raise ConfigurationError if a `needed` one is missing.

    `problems_of` finds settings that are required because of others.
    """
    settings = load(os.environ, DOTENV)
    missing = [name for name in needed if getattr(settings, name) is None]
    problems = [f"MAILING_{name.upper()} is needed; set it, see .env.example" for name in missing]
    if problems := [*problems, *problems_of(settings)]:
        raise ConfigurationError(problems)
    log.configure(level=settings.log_level, style=settings.log_format, secrets=secrets_of(settings))
    return settings


def run(work: Coroutine[Any, Any, T]) -> T:
    return uvloop.run(work)


async def until_signal(work: Callable[[asyncio.Event], Coroutine[Any, Any, T]]) -> T:
    """Run `work` until SIGTERM, SIGHUP or Ctrl-C. A second signal ends the process at once."""
    stop = asyncio.Event()

    def ask() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    on_signal_to_end(ask)
    return await work(stop)


@contextmanager
def pause_garbage_collection() -> Iterator[None]:
    """Collect no garbage while the block imports. Later collections pass over what it made.

    Imports leave a thousand objects of garbage, and looking for them took a fifth of the API's start.
    """
    gc.disable()
    yield
    gc.freeze()
    gc.enable()

"""What every command needs: settings, an event loop, signals."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

from mailing.errors import ConfigurationError
from mailing.observability import log
from mailing.settings import DOTENV, Settings, load, secrets_of

T = TypeVar("T")


def configured(*needed: str, more: Callable[[Settings], tuple[str, ...]] = lambda _: ()) -> Settings:
    """Load the settings and configure logging. Raise ConfigurationError if a `needed` one is missing.

    `more` are those that follow from other settings.
    """
    settings = load(os.environ, DOTENV)
    missing = [name for name in (*needed, *more(settings)) if getattr(settings, name) is None]
    if missing:
        raise ConfigurationError([f"MAILING_{name.upper()} is needed; set it, see .env.example" for name in missing])
    log.configure(level=settings.log_level, style=settings.log_format, secrets=secrets_of(settings))
    return settings


def run(work: Coroutine[Any, Any, T]) -> T:
    return uvloop.run(work)


async def until_signal(work: Callable[[asyncio.Event], Coroutine[Any, Any, T]]) -> T:
    """Run `work` until SIGTERM or Ctrl-C. A second signal ends the process at once."""
    stop = asyncio.Event()

    def ask() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ask)
    return await work(stop)

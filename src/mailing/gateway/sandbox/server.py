"""The sandbox on a port."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

from aiohttp import web

from mailing.gateway.sandbox.app import create_app
from mailing.gateway.sandbox.behaviour import Behaviour
from mailing.gateway.sandbox.dialects import dialect_of
from mailing.gateway.sandbox.gateway import SandboxGateway
from mailing.gateway.sandbox.ledger import Ledger


async def serve(sandbox: AbstractAsyncContextManager[int], *, started: Callable[[int], object]) -> None:
    """Serve what `running` returns until cancelled or SIGTERM. `started` gets the bound port."""
    stop = asyncio.Event()
    with suppress(NotImplementedError, RuntimeError):  # Windows, or not the main thread: cancelling still ends it
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with sandbox as bound_port:
        started(bound_port)
        await stop.wait()


@asynccontextmanager
async def running(  # noqa: PLR0913 - what the command line has
    host: str,
    port: int,
    behaviour: Behaviour,
    *,
    provider: str = "probe",
    token: str | None = None,
    allowed_hosts: Sequence[str] = (),
    ledger_path: Path | None = None,
) -> AsyncIterator[int]:
    """Serve while the block runs, and yield the bound port. Raises OSError: port in use, or ledger not writable."""
    gateway = SandboxGateway(behaviour, dialect=dialect_of(provider), token=token, ledger=Ledger(ledger_path))
    app = create_app(gateway, allowed_hosts=allowed_hosts)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()

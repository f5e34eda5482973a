"""The sandbox on a port."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from mailing.gateway.sandbox.app import create_app
from mailing.gateway.sandbox.behaviour import Behaviour
from mailing.gateway.sandbox.dialects import dialect_of
from mailing.gateway.sandbox.gateway import SandboxGateway
from mailing.gateway.sandbox.ledger import Ledger


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

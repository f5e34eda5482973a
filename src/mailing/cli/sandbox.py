"""`mailing sandbox`: a fake gateway."""

import asyncio
from pathlib import Path
from typing import get_args

import click

from mailing.cli.options import Seconds, example, supervised
from mailing.cli.runtime import run, until_signal
from mailing.gateway.sandbox.app import running
from mailing.gateway.sandbox.behaviour import Behaviour
from mailing.gateway.sandbox.dialects import base_path_of
from mailing.process.ports import require_free_port
from mailing.settings import ProviderName
from mailing.urls import http_url


@click.command(epilog=example("mailing sandbox --port 8001 --latency 0.05"))
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Anyone who can reach it sees the messages it was sent."
)
@click.option(
    "--allowed-host", "allowed_hosts", multiple=True, help="A host name to answer to, beside its own addresses."
)
@click.option("--port", type=click.IntRange(0, 65535), default=8001, show_default=True)
@click.option(
    "--provider",
    type=click.Choice(get_args(ProviderName)),
    default="probe",
    show_default=True,
    help="Whose API to speak. Receipts are sent to the address that a call gives.",
)
@click.option("--latency", type=Seconds(), default=0.0, help="Seconds before each answer.")
@click.option(
    "--ledger", type=click.Path(dir_okay=False, path_type=Path), help="Append each accepted message to this file."
)
@supervised
def sandbox(
    *, host: str, allowed_hosts: tuple[str, ...], port: int, provider: str, latency: float, ledger: Path | None
) -> None:
    """Run a fake gateway that speaks a provider's API and shows what it accepted.

    Change its behaviour while it runs with PUT /behaviour. Its page is at /.
    """

    async def serve(stop: asyncio.Event) -> None:
        behaviour = Behaviour(latency_s=latency)
        async with running(
            host, port, behaviour, provider=provider, allowed_hosts=allowed_hosts, ledger_path=ledger
        ) as bound:
            click.echo(f"sandbox gateway: {http_url(host, bound)}{base_path_of(provider)}")
            await stop.wait()

    require_free_port(host, port, "--host or --port")
    run(until_signal(serve))

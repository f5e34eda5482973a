"""`mailing demo`: one run through the product, from import to statistics, as an API client sees it."""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mailing.cli.options import example
from mailing.cli.runtime import run
from mailing.errors import MailingError
from mailing.process.local_stack import LocalStack, local_stack, until_ended
from mailing.process.ports import free_port
from mailing.process.supervisor import Signals
from mailing.settings import Settings

TIMEOUT_S = 60.0
SHARE_UNDELIVERED = 0.02
STATUSES = ("planned", "sent", "pending", "sending", "failed", "cancelled", "expired", "unknown")


@click.command(epilog=example("mailing demo"))
@click.option("--clients", "count", type=click.IntRange(1, 1000), default=1000, show_default=True)
def demo(count: int) -> None:
    """Send one mailing to sample clients through a sandbox gateway, in a temporary database."""
    run(run_demo(count))


async def run_demo(count: int) -> None:
    """Raise MailingError unless every message was sent and reported within TIMEOUT_S, before a signal to end."""
    console, signals = Console(), Signals()
    signals.listen()
    with _temporary_directory() as directory:
        settings = Settings(data_dir=directory, port=free_port(), log_level="warning", gateway_provider="kannel")
        console.print("Starting PostgreSQL, API, worker, and a sandbox that acts as Kannel.")
        console.print(f"Temporary data is in {directory}.")
        async with local_stack(settings, sandbox_port=free_port(), signals=signals, echo=console.print) as stack:
            running = asyncio.create_task(until_ended(stack))
            session = asyncio.create_task(_run_campaign(stack, count, console))
            await asyncio.wait({running, session}, return_when=asyncio.FIRST_COMPLETED)
            signals.stop.set()
            is_interrupted = not session.done()
            session.cancel()
            await running
            if is_interrupted:
                raise MailingError("stopped before every message was sent and reported")
            await session


@contextmanager
def _temporary_directory() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="mailing-demo-") as directory:
        Path(directory).chmod(0o711)  # as root, PostgreSQL runs as another user and must pass through
        yield directory


async def _run_campaign(stack: LocalStack, count: int, console: Console) -> None:
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    async with httpx.AsyncClient(base_url=f"{stack.url}/mailing/api", headers=headers, trust_env=False) as api:
        await _until_ready(stack)
        await _let_some_fail(stack)
        imported = _body(
            await api.post("/clients/import", content=_sample(count), headers={"Content-Type": "text/csv"})
        )
        console.print(f"{imported['created']:,} sample clients imported.")
        mailing = _body(await api.post("/mailings/", json=_mailing()))
        statistics = await _follow(api, mailing["id"], count, console)
    counts, delivery = statistics["counts"], statistics["delivery"]
    console.print(_table(mailing["id"], counts, delivery))
    if counts["sent"] != count:
        raise MailingError(f"only {counts['sent']} of {count} messages were sent within {TIMEOUT_S:g} s")
    if delivery["awaited"]:
        raise MailingError(f"{delivery['awaited']} messages have no receipt after {TIMEOUT_S:g} s")
    console.print(f"{count:,} of {count:,} sent, {delivery['delivered']:,} delivered.")
    console.print("`mailing up`, in a clone `make up`, keeps everything running.")


async def _until_ready(stack: LocalStack) -> None:
    until = time.monotonic() + TIMEOUT_S
    async with httpx.AsyncClient(base_url=stack.url, trust_env=False) as http:
        while time.monotonic() < until:
            try:
                if (await http.get("/health/ready")).is_success:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)
    raise MailingError(f"the API did not become ready within {TIMEOUT_S:g} s")


async def _let_some_fail(stack: LocalStack) -> None:
    """Have the sandbox report some messages as not delivered, as a real provider would."""
    async with httpx.AsyncClient(base_url=str(stack.sandbox_url), trust_env=False) as sandbox:
        _body(await sandbox.put("/behaviour", json={"receipt_undelivered": SHARE_UNDELIVERED}))


async def _follow(api: httpx.AsyncClient, mailing_id: int, count: int, console: Console) -> dict[str, Any]:
    """Return the statistics once all is sent and reported, or after TIMEOUT_S."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        bars = {name: progress.add_task(name, total=count) for name in ("sent", "reported")}
        until = time.monotonic() + TIMEOUT_S
        while True:
            statistics = _body(await api.get(f"/statistics/{mailing_id}/", params={"limit": 1}))
            counts, delivery = statistics["counts"], statistics["delivery"]
            progress.update(bars["sent"], completed=counts["sent"])
            progress.update(bars["reported"], completed=counts["sent"] - delivery["awaited"])
            is_over = statistics["status"] == "finished" and not delivery["awaited"]
            if is_over or time.monotonic() > until:
                return statistics
            await asyncio.sleep(0.1)


def _sample(count: int) -> bytes:
    lines = (files("mailing") / "sample" / "clients.csv").read_bytes().splitlines(keepends=True)
    return b"".join(lines[: count + 1])


def _mailing() -> dict[str, str]:
    now = datetime.now(UTC)
    ends_at = now + timedelta(hours=1)
    return {"text": "Hello from Mailing", "starts_at": now.isoformat(), "ends_at": ends_at.isoformat()}


def _table(mailing_id: int, counts: dict[str, int], delivery: dict[str, int]) -> Table:
    table = Table("messages", title=f"Mailing {mailing_id}")
    table.add_column("number", justify="right")
    for status in STATUSES:
        table.add_row(status, f"{counts[status]:,}")
        if status == "sent":
            for name in ("delivered", "undelivered"):
                table.add_row(f"  {name}", f"{delivery[name]:,}")
    return table


def _body(answer: httpx.Response) -> dict[str, Any]:
    if not answer.is_success:
        raise MailingError(f"{answer.request.method} {answer.request.url.path} answered {answer.text}")
    body: dict[str, Any] = answer.json()
    return body

"""`mailing up` as a newcomer starts it: real processes, an embedded PostgreSQL of their own."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx

from mailing.process.local_stack import free_port
from support.plain_http import NO_TLS

PATIENCE_S = 60.0


def clean_environment(**settings: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MAILING_")} | settings


def free_port_with_the_next() -> int:
    """Return a free port whose successor is free for the sandbox gateway."""
    while True:
        port = free_port()
        with socket.socket() as next_one, suppress(OSError, OverflowError):
            next_one.bind(("127.0.0.1", port + 1))
            return port


@asynccontextmanager
async def up(home: Path, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `mailing up` until the block ends; stop it by SIGINT, or kill it if it does not stop."""
    with (home / "up.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mailing", "up"),
            cwd=home,
            env=clean_environment(MAILING_PORT=str(port)),
            stdout=log,
            stderr=log,
        )
    try:
        await _ready(port, process)
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        try:
            await asyncio.wait_for(process.wait(), 20)
        except TimeoutError:
            process.kill()
            raise


async def follow(script: str, *, home: Path, port: int) -> str:
    """Run a script of the documentation in a shell, on this `up`'s ports instead of 8000 and 8001."""
    for written, real in ((8000, port), (8001, port + 1)):
        script = script.replace(f"127.0.0.1:{written}", f"127.0.0.1:{real}")
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-ec", script),
        cwd=home,
        env=clean_environment(PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complaints = await shell.communicate()
    assert shell.returncode == 0, f"{said.decode()}\n{complaints.decode()}"
    return said.decode()


async def _ready(port: int, process: asyncio.subprocess.Process) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    async with httpx.AsyncClient(verify=NO_TLS, trust_env=False) as http:
        while True:
            assert time.monotonic() < give_up_at
            assert process.returncode is None
            try:
                if (await http.get(f"http://127.0.0.1:{port}/health/ready")).is_success:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)

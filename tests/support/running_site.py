"""`mailing up` as a newcomer starts it: real processes, an embedded PostgreSQL of their own."""

import asyncio
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from support.processes import MAILING, clean_environment, running, until_ready

PATIENCE_S = 60.0


def free_port_with_the_next() -> int:
    """Return a free port whose successor is free for the sandbox gateway.

    Both are below the ports of outgoing connections (Linux: from 32768, macOS: from 49152). One of those may take the
    successor before the sandbox listens: Linux gives connections the even ones, and `free_port` an odd one.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with suppress(OSError), socket.socket() as first, socket.socket() as next_one:
            first.bind(("127.0.0.1", port))
            next_one.bind(("127.0.0.1", port + 1))
            return port


@asynccontextmanager
async def up(home: Path, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `mailing up` until the block ends; stop it by SIGINT, or kill it if it does not stop."""
    env = clean_environment(MAILING_PORT=str(port))
    log = home / "up.log"
    async with running(*MAILING, "up", cwd=home, env=env, log=log, end=signal.SIGINT, end_s=PATIENCE_S) as process:
        await until_ready(f"http://127.0.0.1:{port}", process, seconds=PATIENCE_S)
        yield process


async def follow(script: str, *, home: Path, port: int) -> str:
    """Run a script of the documentation in a shell, on this `up`'s ports instead of 8000 and 8001.

    The sandbox gateway may still start when the API is ready.
    """
    await until_ready(f"http://127.0.0.1:{port + 1}", path="/ledger/summary", seconds=PATIENCE_S)
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

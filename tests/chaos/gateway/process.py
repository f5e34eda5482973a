"""The gateway of a run, in a process of its own, and its ledger."""

import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import msgspec

from chaos.gateway import server
from support.plain_http import NO_TLS
from support.processes import running

MIX: Final = {"accept_then_drop": 0.10, "error_500": 0.05, "throttle_429": 0.03, "garbage": 0.02, "hang": 0.01}


@dataclass(frozen=True)
class Witness:
    """`url` is the gateway's address for workers, `http` asks its port for control."""

    url: str
    ledger: Path
    http: httpx.AsyncClient

    async def behave(self, **control: object) -> None:
        """See `reactions.Control`; what is left out stays as it was."""
        (await self.http.put("/control", json=control)).raise_for_status()

    async def summary(self) -> server.Summary:
        answer = await self.http.get("/summary")
        return msgspec.json.decode(answer.raise_for_status().content, type=server.Summary)


@asynccontextmanager
async def witness(directory: Path, *, seed: int) -> AsyncIterator[Witness]:
    ledger = directory / "gateway.ledger"
    command = (sys.executable, server.__file__, "--ledger", str(ledger), "--seed", str(seed))
    async with running(*command, log=directory / "gateway.log", stdin=PIPE, stdout=PIPE) as process:
        assert process.stdout
        port, control = [int((await process.stdout.readline()).split()[1]) for _ in ("ready", "control")]
        address = f"http://127.0.0.1:{control}"
        async with httpx.AsyncClient(base_url=address, verify=NO_TLS, trust_env=False, timeout=30) as http:
            yield Witness(f"http://127.0.0.1:{port}/v1", ledger, http)

"""The gateway of a run: a process of its own, its behaviour, and when calls reached it."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

import httpx
import msgspec

from mailing.site import free_port

Behaviour = dict[str, float | bool]
MIX: Final[Behaviour] = {
    "accept_then_drop": 0.10,
    "error_500": 0.05,
    "throttle_429": 0.03,
    "garbage": 0.02,
    "hang": 0.01,
}
CALM: Final[Behaviour] = {"retry_after_s": 0}
OUTAGES: Final[dict[str, Behaviour]] = {
    "refuse": {"down": True},
    "hang": {"hang": 1.0},
    "status:503": {"error_500": 1.0},
}


class Entry(msgspec.Struct, frozen=True):
    id: int
    at: datetime


class Witness:
    """Through the sandbox, whose ledger knows acceptances alone."""

    def __init__(self, port: int, ledger: Path, *, latency_s: float, recognises_ids: bool, seed: int) -> None:
        self.url = f"http://127.0.0.1:{port}/v1"
        self.ledger = ledger
        self._http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10)
        self._always = CALM | {"latency_s": latency_s, "recognises_ids": recognises_ids, "seed": seed}

    async def behave_badly(self) -> None:
        await self._behave(MIX)

    async def behave_well(self) -> None:
        await self._behave({})

    async def fail(self, mode: str) -> None:
        await self._behave(OUTAGES[mode])

    def beginnings(self) -> list[datetime]:
        """When calls began, in order."""
        lines = self.ledger.read_bytes().splitlines() if self.ledger.exists() else []
        return sorted(msgspec.json.decode(line, type=Entry).at for line in lines)

    async def close(self) -> None:
        await self._http.aclose()

    async def _behave(self, behaviour: Behaviour) -> None:
        (await self._http.put("/behaviour", json=self._always | behaviour)).raise_for_status()


@asynccontextmanager
async def witness(directory: Path, *, latency_s: float, recognises_ids: bool, seed: int) -> AsyncIterator[Witness]:
    port, ledger = free_port(), directory / "gateway.ledger"
    with (directory / "gateway.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mailing", "sandbox", "--port", str(port), "--ledger", str(ledger)),
            stdout=log,
            stderr=log,
        )
    own = Witness(port, ledger, latency_s=latency_s, recognises_ids=recognises_ids, seed=seed)
    try:
        await _answers(own)
        yield own
    finally:
        await own.close()
        process.kill()
        await process.wait()


async def _answers(own: Witness) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                return await own.behave_well()
            except httpx.TransportError:
                await asyncio.sleep(0.1)

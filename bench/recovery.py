"""Measure how long until messages are sent again: `mailing up` behind a proxy that interrupts its database.

    MAILING_DATABASE_URL=postgresql://… PYTHONPATH=tests python bench/recovery.py stop:5 stop:30 freeze:60 kill:0

Each argument is a fault and its duration in seconds: `stop` (PostgreSQL is unreachable), `freeze` (half-open:
afterwards old connections stay dead and new ones work), `kill` (SIGKILL of the worker). The
database is filled with clients.
"""

import asyncio
import os
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import httpx

from mailing.process.ports import free_port
from support.processes import MAILING, running, until, until_ready
from support.proxy import Proxy

CLIENTS = 200_000
LATENCY_S = 0.5  # the gateway's latency: 64 connections send 128 messages per second
KEY = "a-key-for-the-benchmark"


async def main(faults: list[str]) -> None:
    between = Proxy(os.environ["MAILING_DATABASE_URL"])
    await between.start()
    port = free_port()
    with tempfile.TemporaryDirectory() as home:
        env = os.environ | {"MAILING_DATABASE_URL": between.url, "MAILING_PORT": str(port), "MAILING_API_KEY": KEY}
        async with running(*MAILING, "up", env=env, cwd=home) as up:
            await _begin(port)
            for fault in faults:
                print(f"{fault}: sends {await _recovery(up.pid, port, between, fault):.1f} s later", flush=True)
        await between.stop()


async def _begin(port: int) -> None:
    """Start a mailing to all clients, which is sent slowly."""
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False) as http:
        await until_ready(f"http://127.0.0.1:{port}")
        await http.put(f"http://127.0.0.1:{port + 1}/behaviour", json={"latency_s": LATENCY_S})
        await _add_clients()
        now = datetime.now(UTC)
        body = {"text": "x", "starts_at": now.isoformat(), "ends_at": (now + timedelta(days=1)).isoformat()}
        (await http.post("/mailing/api/mailings/", json=body)).raise_for_status()
    await _accepts(port)


async def _add_clients() -> None:
    database = await asyncpg.connect(os.environ["MAILING_DATABASE_URL"])
    await database.execute(
        """INSERT INTO client (phone, operator_code, timezone)
        SELECT '79' || lpad(n::text, 9, '0'), '900', 'UTC' FROM generate_series(1, $1) n ON CONFLICT DO NOTHING""",
        CLIENTS,
    )
    await database.close()


async def _recovery(up: int, port: int, between: Proxy, fault: str) -> float:
    name, _, seconds = fault.partition(":")
    match name:
        case "stop":
            await between.stop()
            await asyncio.sleep(float(seconds))
            await between.start()
        case "freeze":
            between.freeze()
            await asyncio.sleep(float(seconds))
            between.forget()
        case "kill":
            os.kill(_worker_of(up), signal.SIGKILL)
        case _:
            raise SystemExit(f"{fault}: no such fault")
    mended_at = time.monotonic()
    await _accepts(port)
    recovered_s = time.monotonic() - mended_at
    await asyncio.sleep(35)  # stable: the supervisor restarts without delay again
    return recovered_s


def _worker_of(up: int) -> int:
    """Find the worker's process. Linux only."""
    children = Path(f"/proc/{up}/task/{up}/children").read_text().split()
    return next(int(pid) for pid in children if b"\0worker\0" in Path(f"/proc/{pid}/cmdline").read_bytes())


async def _accepts(port: int) -> None:
    """Wait until the gateway has accepted 100 more messages."""
    least = await _accepted(port) + 100

    async def is_reached() -> bool:
        return await _accepted(port) >= least

    await until(is_reached, seconds=3600, every_s=0.05)


async def _accepted(port: int) -> int:
    async with httpx.AsyncClient(trust_env=False) as http:
        return int((await http.get(f"http://127.0.0.1:{port + 1}/ledger/summary")).json()["accepted"])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))

"""The scripted gateway itself: what the product's client makes of each reaction, and what the ledger says of it."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from chaos import gateway as scripted
from chaos.reactions import REACTIONS
from mailing.gateway.client import Gateway
from mailing.gateway.outcome import Outcome
from mailing.site import free_port


@dataclass
class Running:
    url: str
    control: httpx.AsyncClient
    ledger: Path
    process: asyncio.subprocess.Process

    async def follow(self, **script: object) -> None:
        (await self.control.put("/control", json=script)).raise_for_status()

    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.ledger.read_bytes().splitlines()]


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Running]:
    port, control_port, ledger = free_port(), free_port(), directory / "ledger"
    ports = ("--port", str(port), "--control-port", str(control_port), "--ledger", str(ledger))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        scripted.__file__,
        *ports,
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(Path(scripted.__file__).parents[1])},
    )
    assert process.stdout
    try:
        assert await process.stdout.readline() == b"ready\n"
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{control_port}", trust_env=False) as control:
            yield Running(f"http://127.0.0.1:{port}/v1", control, ledger, process)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


def client_of(gateway: Running) -> Gateway:
    return Gateway(base_url=gateway.url, token="t", timeout_s=1.0, concurrency=4)


OUTCOMES = {
    "accept": Outcome.accepted,
    "close_as_we_write": Outcome.accepted,
    "soft_refusal": Outcome.soft_refusal,
    "redirect": Outcome.configuration,
    "error_408": Outcome.not_sent,
    "error_425": Outcome.not_sent,
    **dict.fromkeys(("error_400", "error_413", "error_415", "error_422"), Outcome.refused),
    **dict.fromkeys(("error_401", "error_403", "error_404", "error_405"), Outcome.configuration),
}


async def test_each_reaction_is_what_the_client_should_take_it_for(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway, client_of(gateway) as client:
        for number, name in enumerate(REACTIONS, 1):
            await gateway.follow(mode=name, hang_s=5)
            answer = await client.send(number, phone="79161234567", text="t", time_left_s=60)
            assert answer
            assert (name, answer.outcome) == (name, OUTCOMES.get(name, Outcome.ambiguous))
        accepted = {entry["n"] for entry in gateway.entries() if entry["event"] == "accepted"}
        began = {entry["n"]: entry["id"] for entry in gateway.entries() if entry["event"] == "began"}
    taking = {number for number, name in enumerate(REACTIONS, 1) if REACTIONS[name].takes}
    assert {began[number] for number in accepted} == taking
    assert sorted(began.values()) == list(range(1, len(REACTIONS) + 1))


@pytest.mark.parametrize(
    ("retry_after", "seconds"), [("7", 7.0), ("-3", 0.0), ("315360000", 900.0), ("soon", None), ("", None)]
)
async def test_retry_after_is_sent_as_it_is_given(tmp_path: Path, retry_after: str, seconds: float | None) -> None:
    async with running(tmp_path) as gateway, client_of(gateway) as client:
        await gateway.follow(mode="throttle_429", retry_after=retry_after)
        answer = await client.send(1, phone="79161234567", text="t", time_left_s=60)
        assert answer
        assert (answer.outcome, answer.retry_after_s) == (Outcome.throttled, seconds)


async def test_refusing_and_listening_again_the_ledger_outlives_a_kill(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway, client_of(gateway) as client:
        first = await client.send(1, phone="79161234567", text="t", time_left_s=60)
        await gateway.follow(mode="refuse")
        refused = await client.send(2, phone="79161234567", text="t", time_left_s=60)
        await gateway.follow(mode="normal", recognises_ids=True)
        again = await client.send(1, phone="79161234567", text="t", time_left_s=60)
        assert first
        assert refused
        assert again
        assert (first.http_status, refused.outcome, again.http_status) == (200, Outcome.not_sent, 409)
        gateway.process.send_signal(signal.SIGKILL)
        await gateway.process.wait()
        assert [entry["event"] for entry in gateway.entries()] == ["began", "accepted", "ended", "began", "ended"]


async def test_a_request_that_never_became_whole_is_a_broken_call(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        _, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.split(":")[2].split("/")[0]))
        writer.write(b"POST /v1/send/1 HTTP/1.1\r\nContent-Length: 90\r\n\r\n{")
        await writer.drain()
        writer.transport.abort()
        for _ in range(500):
            if gateway.entries():
                break
            await asyncio.sleep(0.02)
        assert [entry["event"] for entry in gateway.entries()] == ["broken"]


async def test_the_same_seed_gives_the_same_reactions(tmp_path: Path) -> None:
    async def outcomes(directory: Path) -> list[Outcome]:
        directory.mkdir()
        async with running(directory) as gateway, client_of(gateway) as client:
            await gateway.follow(mix={"error_500": 0.3, "garbage": 0.2, "error_400": 0.3})
            answers = [await client.send(each, phone="79161234567", text="t", time_left_s=60) for each in range(40)]
        return [answer.outcome for answer in answers if answer]

    assert await outcomes(tmp_path / "one") == await outcomes(tmp_path / "two")

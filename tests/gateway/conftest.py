"""Servers on real sockets that answer as a test says, byte for byte, and the client that calls them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from ssl import SSLContext
from typing import Any

import pytest

from mailing.gateway.client import GatewayClient
from mailing.gateway.outcome import Answer
from mailing.gateway.providers.probe import Probe
from mailing.reasons.words import words_of
from mailing.settings import Settings
from support.gateway_calls import MakeGateway, Send, StartServer
from support.raw_server import Handler, serving

PHONE, TEXT, TOKEN = "79161234567", "Привет, мир", "a.secret.token"


@pytest.fixture
async def start_server() -> AsyncIterator[StartServer]:
    """Start a server with `(handler, *, tls=None)` and get its port; a test may start several."""
    async with AsyncExitStack() as servers:

        async def start(handler: Handler, *, tls: SSLContext | None = None) -> int:
            return await servers.enter_async_context(serving(handler, tls=tls))

        yield start


@pytest.fixture
def gateway() -> MakeGateway:
    def make(port: int, *, timeout_s: float = 5.0, concurrency: int = 4, scheme: str = "http") -> GatewayClient:
        url = f"{scheme}://127.0.0.1:{port}/v1"
        return GatewayClient(
            Probe(Settings(gateway_token=TOKEN)), base_url=url, timeout_s=timeout_s, concurrency=concurrency
        )

    return make


@pytest.fixture
def send() -> Send:
    """Send one message with `(gateway, message_id=7, *, time_left_s=60)`; its answer may tell no secret."""

    async def send_one(client: GatewayClient, message_id: int = 7, *, time_left_s: float = 60.0) -> Answer:
        answer = await client.send(message_id, phone=PHONE, text=TEXT, time_left_s=time_left_s)
        assert answer is not None
        assert len(words_of(answer.full_reason)) <= 200
        assert words_of(answer.full_reason).isprintable()
        assert not any(secret in words_of(answer.full_reason) for secret in (PHONE, TEXT, TOKEN))
        return answer

    return send_one


@pytest.fixture(autouse=True)
async def nothing_goes_unhandled() -> AsyncIterator[None]:
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
    yield
    assert problems == []

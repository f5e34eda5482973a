"""A mailing through the sandbox as each provider, with the receipts that it sends over real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from msgspec.structs import replace

from mailing.app import create_app
from mailing.database.engine import Sessions, transaction
from mailing.gateway.sandbox import Behaviour, base_path_of, running
from mailing.process.local_stack import free_port
from mailing.receipts.address import account_receipts_path, replies_path
from mailing.receipts.key import read_key
from mailing.settings import Settings
from mailing.web.server import Server, server_config
from support import campaign as campaign_
from support.api import KEY
from support.campaign import Campaign
from support.processes import until

TROUBLE = {
    "receipt_undelivered": 0.2,
    "receipt_early": 0.3,
    "receipt_twice": 0.3,
    "receipt_reversed": 0.3,
    "receipt_forged": 0.3,
}


@asynccontextmanager
async def through(
    provider: str, settings: Settings, sessions: Sessions, **behaviour: object
) -> AsyncIterator[Campaign]:
    """Serve the API on a socket, and run a worker and the sandbox."""
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    async with transaction(sessions) as session:
        key = await read_key(session)
    told = {
        "receipt_after_s": 0.05,
        "receipts_to": base + account_receipts_path(key, provider),
        "replies_to": base + replies_path(key, provider),
        **behaviour,
    }
    sandbox = Behaviour(**told)  # type: ignore[arg-type] # fields by a table
    async with running("127.0.0.1", 0, sandbox, provider=provider, token="secret") as gateway:
        settings = replace(
            settings,
            gateway_provider=provider,
            gateway_url=f"http://127.0.0.1:{gateway}{base_path_of(provider)}",
            gateway_user=f"AC{'0' * 32}",
            gateway_token="secret",
            sender="Shop",
            public_url=base,
            log_level="warning",
        )
        async with _served(settings, port), campaign_.working(settings):
            headers = {"Authorization": f"Bearer {KEY}"}
            async with httpx.AsyncClient(base_url=f"{base}/mailing/api", headers=headers, timeout=30) as api:
                yield Campaign(api, sessions)


@asynccontextmanager
async def _served(settings: Settings, port: int) -> AsyncIterator[None]:
    server = Server(server_config(create_app(settings), lifespan="on"))
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await until(lambda: server.started, seconds=30)
        yield
        server.should_exit = True
        await serving


async def delivery(campaign: Campaign, mailing_id: int) -> dict[str, int]:
    found: dict[str, int] = (await campaign.statistics(mailing_id))["delivery"]
    return found


@pytest.mark.parametrize("provider", ["kannel", "twilio", "infobip", "smsc"])
async def test_every_message_of_a_mailing_is_reported_once_and_by_its_strongest_receipt(
    settings: Settings, sessions: Sessions, provider: str
) -> None:
    async with through(provider, settings, sessions, **TROUBLE) as campaign:
        await campaign.clients(60)
        mailing_id = await campaign.mailing()
        assert await campaign.finished(mailing_id) == {"planned": 60, "sent": 60}

        async def all_reported() -> bool:
            return (await delivery(campaign, mailing_id))["awaited"] == 0

        await campaign.until(all_reported)
        found = await delivery(campaign, mailing_id)
        rows = await campaign.rows("SELECT state, count(*) FROM receipt GROUP BY 1")
        assert dict(rows) == {
            state: found[name] for state, name in ((2, "undelivered"), (3, "delivered")) if found[name]
        }
        assert found["undelivered"] > 0
        assert found["delivered"] + found["undelivered"] == 60


async def test_a_call_without_an_answer_is_resolved_by_its_receipt(settings: Settings, sessions: Sessions) -> None:
    """Kannel is blind to repeats, so nothing is sent twice."""
    async with through("kannel", settings, sessions, accept_then_drop=1.0) as campaign:
        await campaign.clients(10)
        mailing_id = await campaign.mailing()
        assert await campaign.finished(mailing_id)

        async def all_resolved() -> bool:
            return await campaign.counts(mailing_id) == {"planned": 10, "sent": 10}

        await campaign.until(all_resolved)
        assert await delivery(campaign, mailing_id) == {"delivered": 10, "undelivered": 0, "awaited": 0}
        by = await campaign.rows("SELECT DISTINCT actor FROM event WHERE kind = 'message.resolved'")
        assert by == [("receipt",)]
        calls = await campaign.rows("SELECT count(*) FROM attempt")
        assert calls == [(10,)]


async def test_a_phone_that_replies_stop_is_opted_out(settings: Settings, sessions: Sessions) -> None:
    async with through("kannel", settings, sessions, reply=1.0, reply_text="Стоп.") as campaign:
        (client_id,) = await campaign.clients(1)
        await campaign.finished(await campaign.mailing())

        async def opted_out() -> bool:
            return bool((await campaign.api.get(f"/clients/{client_id}/")).json()["opted_out"])

        await campaign.until(opted_out)

"""A mailing through the sandbox as each provider, with the receipts that it sends over real sockets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import httpx
import pytest
from msgspec.structs import replace

from mailing.access.roles import Role
from mailing.gateway.sandbox.app import running
from mailing.gateway.sandbox.behaviour import Behaviour, plan_receipt
from mailing.gateway.sandbox.dialects import base_path_of
from mailing.process.ports import free_port
from mailing.receipts.address import account_receipts_path, replies_path, signing_secret
from mailing.receipts.repository import read_key
from mailing.reports.on_demand import text_of_report
from mailing.settings import Settings
from support.answers import words
from support.api import KEY, bound_app
from support.asgi import served
from support.campaign import ApiCaller, working
from support.database import Database
from support.plain_http import NO_TLS
from support.processes import becomes
from support.provider_calls import REPORTING
from support.users import made, signed_in

pytestmark = pytest.mark.slow

TROUBLE = {
    "receipt_undelivered": 0.2,
    "receipt_early": 0.3,
    "receipt_twice": 0.3,
    "receipt_reversed": 0.3,
    "receipt_forged": 0.3,
}


@asynccontextmanager
async def through(provider: str, settings: Settings, db: Database, **behaviour: object) -> AsyncIterator[ApiCaller]:
    """Serve the API on a socket, and run a worker and the sandbox."""
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    key = await db.commit(read_key)
    told = {
        "receipt_after_s": 0.05,
        "receipts_to": base + account_receipts_path(key, provider),
        "receipts_secret": signing_secret(key, provider),
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
        headers = {"Authorization": f"Bearer {KEY}"}
        with bound_app(settings) as app:
            async with (
                served(app, port=port),
                working(settings),
                httpx.AsyncClient(base_url=f"{base}/mailing/api", headers=headers, verify=NO_TLS, timeout=30) as api,
            ):
                yield ApiCaller(api, db)


async def delivery(campaign: ApiCaller, mailing_id: int) -> dict[str, int]:
    return dict((await campaign.statistics(mailing_id))["delivery"])


@pytest.mark.parametrize("provider", REPORTING)
async def test_every_message_of_a_mailing_is_reported_once_and_by_its_strongest_receipt(
    settings: Settings, db: Database, provider: str
) -> None:
    async with through(provider, settings, db, **TROUBLE) as campaign:
        await campaign.clients(60)
        mailing_id = await campaign.mailing()
        assert await campaign.finished(mailing_id) == {"planned": 60, "sent": 60}

        async def all_reported() -> bool:
            return (await delivery(campaign, mailing_id))["awaited"] == 0

        await campaign.until(all_reported)
        found = await delivery(campaign, mailing_id)
        rows = await campaign.db.run("SELECT state, count(*) FROM receipt GROUP BY 1")
        assert dict(rows) == {
            state: found[name] for state, name in ((2, "undelivered"), (3, "delivered")) if found[name]
        }
        assert found["undelivered"] > 0
        assert found["delivered"] + found["undelivered"] == 60


async def test_a_call_without_an_answer_is_resolved_by_its_receipt(settings: Settings, db: Database) -> None:
    """Kannel is blind to repeats, so nothing is sent twice."""
    async with through("kannel", settings, db, accept_then_drop=1.0) as campaign:
        await campaign.clients(10)
        mailing_id = await campaign.mailing()
        assert await campaign.finished(mailing_id)
        await campaign.shows(mailing_id, planned=10, sent=10)
        assert await delivery(campaign, mailing_id) == {"delivered": 10, "undelivered": 0, "awaited": 0}
        by = await campaign.db.run("SELECT DISTINCT actor FROM event WHERE kind = 'message.resolved'")
        assert by == [("receipt",)]
        assert await campaign.db.value("SELECT count(*) FROM attempt") == 10


async def test_a_phone_that_replies_stop_is_opted_out(settings: Settings, db: Database) -> None:
    async with through("kannel", settings, db, reply=1.0, reply_text="Стоп.") as campaign:
        await campaign.clients(1)
        await campaign.finished(await campaign.mailing())
        await campaign.until_found("SELECT 1 FROM client WHERE opted_out")


# As if the whole mailing had been 73 hours ago, all of it at one time, so that one report has it.
AGED = (
    "SET LOCAL session_replication_role = replica",
    """UPDATE mailing SET starts_at = now() - interval '74 h', ends_at = now() - interval '73 h',
           started_at = now() - interval '74 h', finished_at = now() - interval '73 h'""",
    "UPDATE message SET finished_at = now() - interval '73 h'",
    "UPDATE receipt SET at = now() - interval '73 h', received_at = now() - interval '73 h'",
)


async def test_of_a_mailing_whose_every_second_receipt_is_lost_all_say_what_is_known(
    settings: Settings, db: Database
) -> None:
    """Before three days a receipt may still come; after them none did. Nothing is guessed: the messages stay sent."""
    lossy = {"receipt_lost": 0.5}
    async with through("kannel", settings, db, **lossy) as campaign:
        await campaign.clients(60)
        mailing_id = await campaign.mailing()
        await campaign.finished(mailing_id)
        ids = [message["id"] for message in await campaign.messages(mailing_id)]
        plans = {each: plan_receipt(Behaviour(**lossy), each, 1) for each in ids}  # type: ignore[arg-type] # as above
        lost = [each for each, plan in plans.items() if plan.receipt_lost]
        told = {"delivered": 60 - len(lost), "undelivered": 0, "awaited": len(lost)}
        await becomes(lambda: delivery(campaign, mailing_id), told)
        assert f"sent, no receipt yet {len(lost)} " in await _page(campaign, f"mailings/{mailing_id}")
        async with db.engine.begin() as connection:
            for statement in AGED:
                await connection.exec_driver_sql(statement)
        assert await campaign.counts(mailing_id) == {"planned": 60, "sent": 60}
        assert await delivery(campaign, mailing_id) == told
        awaited = (await campaign.statistics(mailing_id, limit=500, delivery="awaited"))["messages"]["items"]
        assert sorted(message["id"] for message in awaited) == sorted(lost)
        assert {(message["status"], message["receipt"]) for message in awaited} == {("sent", None)}

        async def page_says_so() -> bool:  # it may be a second old
            return f"sent, no receipt came {len(lost)} " in await _page(campaign, f"mailings/{mailing_id}")

        await campaign.until(page_says_so)
        assert f"Delivered {60 - len(lost)} / 60" in await _page(campaign, f"mailings/{mailing_id}")
        assert "Delivery no receipt came" in await _page(campaign, f"messages/{lost[0]}")
        kannel = replace(settings, gateway_provider="kannel", public_url="http://127.0.0.1")
        sent_at = await campaign.db.value("SELECT min(finished_at) FROM message")
        report = await text_of_report(db.sessions, kannel, sent_at.date(), now=datetime.now(UTC))
        assert f"{60 - len(lost)} of 60 sent; not delivered 0, without a receipt {len(lost)}" in " ".join(
            report.split()
        )


async def _page(campaign: ApiCaller, path: str) -> str:
    """Return what a viewer reads."""
    found = await campaign.db.run("SELECT id FROM user_account WHERE name = 'viewer'")
    token = await signed_in(campaign.db, found[0].id if found else await made(campaign.db, "viewer", Role.VIEWER))
    address = str(campaign.api.base_url.join(f"/admin/{path}"))
    return words(await campaign.api.get(address, headers={"Cookie": f"mailing_session={token}"}))

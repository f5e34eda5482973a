"""A mailing through Kannel itself: API and worker as processes, bearerbox, smsbox, and Kannel's fake SMSC."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from mailing.process.ports import free_port
from mailing.sending.recording import BATCH
from support.answers import words
from support.campaign import ApiCaller
from support.commands import mailing, running_command
from support.database import Database
from support.forks import Fork
from support.kannel import MISSING, NUMBER, Kannel, is_installed, kannel_in
from support.processes import clean_environment, until, until_ready

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not is_installed(), reason=MISSING), pytest.mark.timeout(400)]

KEY = "a-key-of-the-tests-with-full-rights"
PASSWORD = "seven lamps by the river"
PATIENCE_S = 240.0
SHORT = "Распродажа до пятницы"
TWO_PARTS = "Наш магазин переехал на новое место. " * 3
CONCURRENCY = 16
DELIVERY = "Delivered so far: 1 000 of 1 000 sent; not delivered 0, without a receipt 0"


class Site:
    """API and worker on one database, in front of Kannel."""

    def __init__(self, database_url: str, kannel: Kannel, home: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._home = home
        self._environment = clean_environment(
            MAILING_DATABASE_URL=database_url,
            MAILING_PORT=str(self.port),
            MAILING_API_KEY=KEY,
            MAILING_ADMIN_PASSWORD=PASSWORD,
            MAILING_API_RATE="0",
            MAILING_GATEWAY_PROVIDER="kannel",
            MAILING_GATEWAY_URL=kannel.url,
            MAILING_GATEWAY_USER="mailing",
            MAILING_GATEWAY_TOKEN=kannel.password,
            MAILING_GATEWAY_CONCURRENCY=str(CONCURRENCY),
            MAILING_GATEWAY_RATE="250",
            MAILING_SENDER="Shop",
            MAILING_PUBLIC_URL=self.url,
        )

    def running(self, command: str) -> AbstractAsyncContextManager[Fork]:
        log = self._home / "site.log"
        return running_command(command, env=self._environment, cwd=self._home, log=log, end_s=60)

    async def told(self, *command: str) -> str:
        """Run a command and return what it prints."""
        return (await asyncio.to_thread(mailing, *command, env=self._environment, cwd=self._home)).stdout

    async def page(self, path: str) -> str:
        """Sign in and return the words of a page, without its tags."""
        headers = {"Sec-Fetch-Site": "same-origin", "Accept-Language": "en"}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, trust_env=False) as browser:
            await browser.post("/admin/sign-in", data={"name": "admin", "password": PASSWORD})
            return words(await browser.get(path))


@pytest.fixture
async def kannel(tmp_path: Path) -> AsyncIterator[Kannel]:
    async with kannel_in(tmp_path) as kannel:
        yield kannel


@pytest.fixture
async def site(database_url: str, kannel: Kannel, tmp_path: Path) -> AsyncIterator[Site]:
    """With an API that answers, and a Kannel that sends replies to it."""
    site = Site(database_url, kannel, tmp_path)
    replies = (await site.told("gateway", "urls")).split()[-1]
    await kannel.start(replies_to=replies)
    async with site.running("api") as api:
        await until_ready(site.url, api, seconds=PATIENCE_S)
        yield site


@pytest.fixture
async def campaign(site: Site, db: Database) -> AsyncIterator[ApiCaller]:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(
        base_url=f"{site.url}/mailing/api", headers=headers, trust_env=False, timeout=30, follow_redirects=True
    ) as api:
        yield ApiCaller(api, db)


async def test_a_thousand_are_delivered_and_every_figure_agrees_with_kannel_s_log(
    site: Site, kannel: Kannel, campaign: ApiCaller
) -> None:
    await campaign.clients(700, tag="short")
    await campaign.clients(300, tag="long")
    async with site.running("worker"):
        mailings = {
            await campaign.mailing(text=SHORT, filter={"tags": ["short"]}): 700,
            await campaign.mailing(text=TWO_PARTS, filter={"tags": ["long"]}): 300,
        }

        async def delivered() -> bool:
            found = [(await campaign.statistics(each, limit=1))["delivery"] for each in mailings]
            return [told["delivered"] for told in found] == list(mailings.values())

        await until(delivered, seconds=PATIENCE_S, every_s=0.3)
    for mailing_id, count in mailings.items():
        found = await campaign.statistics(mailing_id, limit=1)
        assert await campaign.counts(mailing_id) == {"planned": count, "sent": count}
        assert found["delivery"] == {"delivered": count, "undelivered": 0, "awaited": 0}
        assert f"Delivered {count} / {count}" in await site.page(f"/admin/mailings/{mailing_id}")
    assert len(kannel.sent()) == 1000
    assert set(kannel.sent().values()) == {1}
    assert kannel.texts() == {SHORT, TWO_PARTS}
    report = await site.told("report", "--date", f"{datetime.now(UTC):%Y-%m-%d}", "--dry-run")
    assert DELIVERY in " ".join(report.split())
    assert await campaign.db.run("SELECT outcome, count(*) FROM attempt GROUP BY 1") == [("accepted", 1000)]


async def test_stop_as_a_reply_opts_the_phone_out(kannel: Kannel, campaign: ApiCaller) -> None:
    client = (await campaign.api.post("/clients/", json={"phone": NUMBER, "timezone": "UTC"})).json()
    await kannel.connect_smsc("Стоп!")

    async def opted_out() -> bool:
        return bool((await campaign.api.get(f"/clients/{client['id']}/")).json()["opted_out"])

    await until(opted_out, seconds=PATIENCE_S, every_s=0.3)
    kinds = [event["kind"] for event in (await campaign.api.get(f"/events/?client_id={client['id']}")).json()["items"]]
    assert "client.opted_out" in kinds


@pytest.mark.parametrize(
    "worker_too", [False, pytest.param(True, marks=pytest.mark.heavy)], ids=["bearerbox", "bearerbox and the worker"]
)
async def test_after_a_kill_in_the_middle_the_rest_is_sent_and_nothing_is_called_twice(
    site: Site, kannel: Kannel, campaign: ApiCaller, *, worker_too: bool
) -> None:
    """Of 1,000 messages. Each of them is looked for afterwards."""
    await campaign.clients(1000)
    async with AsyncExitStack() as running:
        worker = await running.enter_async_context(site.running("worker"))
        mailing_id = await campaign.mailing(text=SHORT)
        await until(lambda: len(kannel.sent()) > 300, seconds=PATIENCE_S, every_s=0.3)
        await kannel.kill()
        received: int = await campaign.db.value("SELECT count(*) FROM receipt WHERE state = 3")
        lost = len(kannel.sent()) - received  # receipts died with Kannel
        if worker_too:
            worker.kill()
            await running.enter_async_context(site.running("worker"))
        await kannel.start()

        async def told() -> bool:
            found = await campaign.statistics(mailing_id, limit=1)
            return bool(found["status"] == "finished" and found["delivery"]["awaited"] <= lost)

        await until(told, seconds=PATIENCE_S, every_s=0.3)
    counts = await campaign.counts(mailing_id)
    unknown = counts.get("unknown", 0)
    assert counts == {"planned": 1000, "sent": 1000 - unknown} | ({"unknown": unknown} if unknown else {})
    # In a call cut off before bearerbox had stored the message, or claimed by the killed worker and not called.
    assert unknown <= (BATCH if worker_too else CONCURRENCY)
    assert (await campaign.statistics(mailing_id, limit=1))["delivery"]["delivered"] >= 1000 - unknown - lost
    assert lost <= CONCURRENCY
    rows = await campaign.db.run("SELECT phone, status FROM message")
    sent = {row.phone for row in rows if row.status == "sent"}
    unsettled = {row.phone for row in rows if row.status == "unknown"}
    assert sent <= set(kannel.sent()) <= sent | unsettled  # of an unknown one the receipt may have died with bearerbox
    doubtful = "outcome IN ('accepted', 'ambiguous')"
    assert (
        await campaign.db.run(f"SELECT message_id FROM attempt WHERE {doubtful} GROUP BY 1 HAVING count(*) > 1") == []
    )

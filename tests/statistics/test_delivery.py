"""What receipts say, as API, report and metrics show it; nothing without a provider that sends receipts."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial

import httpx
import pytest
from msgspec.structs import replace

from mailing.messages.queries import messages_of
from mailing.messages.schemas import Delivery
from mailing.reports.render import render_html
from mailing.reports.render_text import render_text
from mailing.reports.repository import figures_of, snapshot
from mailing.reports.schedule import Day
from mailing.reports.translations import words_in
from mailing.settings import Settings
from support.api import Api, running_api
from support.database import Database
from support.mailing_requests import items_of_pages
from support.query_plans import scans


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, gateway_provider="kannel", public_url="https://mailing.example.org")


@pytest.fixture
async def mailing_id(db: Database) -> int:
    """Two delivered, one not, one accepted, one silent, one that failed."""
    mailing_id, ids = await db.add_mailing_of(["sent"] * 5 + ["failed"])
    for message_id, state, code in zip(ids, (3, 3, 2, 1), (None, None, "27", None), strict=False):
        await db.add_receipt(message_id, state, code)
    return mailing_id


async def ids(api: Api, mailing_id: int, **params: str | int) -> list[int]:
    found = await items_of_pages(api, f"/statistics/{mailing_id}/", limit=1, **params)
    return [item["id"] for item in found]


async def test_delivery_stands_beside_the_counts(api: Api, mailing_id: int) -> None:
    delivery = {"delivered": 2, "undelivered": 1, "awaited": 2}
    one = (await api.get(f"/statistics/{mailing_id}/")).json()
    assert one["delivery"] == delivery
    assert (one["counts"]["planned"], one["counts"]["sent"]) == (6, 5)
    (line,) = (await api.get("/statistics/")).json()["items"]
    assert line["delivery"] == delivery


async def test_messages_are_listed_by_delivery(api: Api, mailing_id: int) -> None:
    all_ids = await ids(api, mailing_id)
    assert await ids(api, mailing_id, delivery="delivered") == all_ids[:2]
    assert await ids(api, mailing_id, delivery="undelivered") == all_ids[2:3]
    assert await ids(api, mailing_id, delivery="awaited") == all_ids[3:5]
    assert await ids(api, mailing_id, delivery="awaited", status="sent") == all_ids[3:5]
    assert await ids(api, mailing_id, delivery="undelivered", status="failed") == []
    assert (await api.get(f"/statistics/{mailing_id}/", params={"delivery": "lost"})).status_code == 400


async def test_a_message_and_its_history_have_the_receipt(api: Api, mailing_id: int) -> None:
    found = await ids(api, mailing_id)
    undelivered = (await api.get(f"/messages/{found[2]}/")).json()
    receipt = undelivered["receipt"]
    assert (undelivered["status"], receipt["state"], receipt["code"]) == ("sent", "undelivered", "27")
    assert (await api.get(f"/messages/{found[4]}/")).json()["receipt"] is None
    story = await items_of_pages(api, "/events/", message_id=found[2], limit=1)
    (told,) = [entry for entry in story if entry["kind"].startswith("receipt.")]
    assert (told["kind"], told["by"], told["detail"]["code"]) == ("receipt.undelivered", "provider", "27")
    client_id = undelivered["client_id"]
    of_client = (await api.get("/events/", params={"client_id": client_id})).json()["items"]
    assert "receipt.undelivered" in {entry["kind"] for entry in of_client}


async def test_metrics_have_the_receipts(api: Api, mailing_id: int) -> None:
    page = (await api.get("http://test/metrics")).text
    assert mailing_id
    assert 'mailing_messages_delivery{delivery="awaited"} 2.0' in page
    assert 'mailing_receipts_total{result="stale"} 0.0' in page
    assert 'mailing_receipt_delay_seconds_bucket{le="+Inf"} 0.0' in page
    assert 'mailing_replies_total{result="opt_out"} 0.0' in page


async def test_the_report_says_what_arrived(db: Database, mailing_id: int) -> None:
    assert mailing_id
    now = datetime.now(UTC)
    day = Day(now.date(), "UTC", now - timedelta(hours=1), now + timedelta(hours=1))
    async with snapshot(db.sessions) as session:
        figures = await figures_of(session, day, taken_at=now, receipts=True)
        without = await figures_of(session, day, taken_at=now)
    told = "Delivered so far: 2 of 5 sent; not delivered 1, without a receipt 2"
    assert told in " ".join(render_text(figures, words_in("en")).split())
    assert told in render_html(figures, words_in("en"), title="")
    assert "Доставлено на данный момент: 2 из 5 отправленных" in render_text(figures, words_in("ru"))
    assert "Delivered" not in render_text(without, words_in("en"))


@pytest.fixture
async def silent(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The API with a provider that sends no receipts."""
    async with running_api(replace(settings, gateway_provider="probe")) as client:
        yield client


async def test_without_a_provider_of_receipts_nothing_is_shown(silent: httpx.AsyncClient, db: Database) -> None:
    mailing_id, _ = await db.add_mailing_of(["sent"])
    assert (await silent.get(f"/statistics/{mailing_id}/")).json()["delivery"] is None
    assert (await silent.get("/statistics/")).json()["items"][0]["delivery"] is None
    metrics = (await silent.get("http://test/metrics")).text
    assert "receipt" not in metrics
    assert "delivery" not in metrics
    assert (await silent.get("http://test/receipts/1.x")).status_code == 404


@pytest.mark.parametrize(
    ("delivery", "indexes"),
    [(Delivery.delivered, {"receipt_listed"}), (Delivery.awaited, {"message_listed", "receipt_pkey"})],
)
async def test_a_page_by_delivery_is_read_by_index(db: Database, delivery: Delivery, indexes: set[str]) -> None:
    mailings = [await db.add_mailing() for _ in range(3)]
    for mailing_id in mailings:
        await db.add_messages(mailing_id, ["sent"] * 2000, first_client=10_000 * mailing_id)
    add = """INSERT INTO receipt (message_id, mailing_id, state, at)
           SELECT id, mailing_id, 2 + id % 2, now() FROM message WHERE id % 10 > 0"""
    await db.run(add)
    page = partial(messages_of, mailing_id=mailings[-1], cursor=0, limit=50, delivery=delivery)
    read = [node for node in await scans(db.engine, page) if node.get("Relation Name") in {"message", "receipt"}]
    found = [node for node in read if node["Alias"] != "r"]  # the receipts shown: in so small a table as it may be
    assert {node.get("Index Name") for node in found} >= indexes
    assert "Seq Scan" not in {node["Node Type"] for node in found}
    assert await db.value("SELECT count(*) FROM receipt") == 5400

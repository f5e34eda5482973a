"""What the pages say of receipts, and that they say nothing of them where the provider sends none."""

import re
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from mailing.settings import Settings
from support.admin import Browser
from support.answers import words
from support.database import Database


@pytest.fixture(params=["kannel"])
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    return replace(settings, gateway_provider=request.param, public_url="https://test")


@pytest.fixture
async def mailing_id(db: Database) -> int:
    return await db.add_mailing()


@pytest.fixture
async def ids(db: Database, mailing_id: int) -> Sequence[int]:
    """Two delivered, one not, one without a receipt."""
    ids = await db.add_messages(mailing_id, ["sent"] * 4)
    for message_id, state, code in zip(ids, (3, 3, 2), (None, None, "UNDELIV 27"), strict=False):
        await db.add_receipt(message_id, state, code)
    return ids


@pytest.mark.usefixtures("ids")
async def test_the_mailing_says_what_arrived_and_why_the_rest_did_not(viewer: Browser, mailing_id: int) -> None:
    page = words(await viewer.get(f"/admin/mailings/{mailing_id}"))
    assert "delivered 2" in page
    assert "not delivered 1" in page
    assert "sent, no receipt yet 1" in page
    assert "Delivered 2 / 4" in page
    assert "1 message was not delivered. Its reasons: UNDELIV 27 : 1" in page


@pytest.mark.usefixtures("ids")
async def test_the_statistics_call_nothing_undelivered_that_was_not_even_sent(viewer: Browser) -> None:
    """Their last column counts the messages without success at the gateway; receipts say what was not delivered."""
    page = words(await viewer.get("/admin/statistics"))
    assert "Planned Sent Left Not sent" in page
    assert "Not delivered" not in page


@pytest.mark.usefixtures("ids")
async def test_after_three_days_the_mailing_says_that_no_receipt_came(
    viewer: Browser, db: Database, mailing_id: int
) -> None:
    change = """UPDATE mailing SET starts_at = now() - interval '5 d', ends_at = now() - interval '73 h',
               started_at = now() - interval '5 d', finished_at = now() - interval '4 d', status = 'finished',
               content_revision = content_revision"""
    await db.run(change)
    assert "sent, no receipt came 1" in words(await viewer.get(f"/admin/mailings/{mailing_id}"))


@pytest.mark.parametrize(
    ("number", "sent_ago", "said"),
    [
        (0, "0 s", "Delivery delivered 12 s after it was accepted"),
        (2, "0 s", "Delivery not delivered: UNDELIV 27"),
        (3, "0 s", "Delivery no receipt yet"),
        (3, "73 h", "Delivery no receipt came"),
    ],
)
async def test_a_message_says_what_became_of_it(
    viewer: Browser, db: Database, ids: Sequence[int], number: int, sent_ago: str, said: str
) -> None:
    await db.run(f"UPDATE message SET finished_at = finished_at - interval '{sent_ago}'")
    assert said in words(await viewer.get(f"/admin/messages/{ids[number]}"))


@pytest.mark.parametrize(
    ("code", "params", "said"),
    [
        ("provider_code", '{"error": "HTTP 200"}', "no clear answer the provider answered HTTP 200 · 12 ms"),
        ("provider_code", '{"error": "7"}', "no clear answer the provider answered 7 · HTTP 200 · 12 ms"),
        ("http_status", '{"http_status": 200}', "no clear answer HTTP 200 · 12 ms"),
    ],
)
async def test_a_call_names_its_http_status_once(
    viewer: Browser, db: Database, ids: Sequence[int], code: str, params: str, said: str
) -> None:
    await db.add_attempt(ids[0], "ambiguous")
    await db.run("UPDATE attempt SET reason_code = :code, reason_params = CAST(:p AS jsonb)", code=code, p=params)
    assert said in words(await viewer.get(f"/admin/messages/{ids[0]}"))


async def test_messages_are_filtered_by_delivery(viewer: Browser, mailing_id: int, ids: Sequence[int]) -> None:
    path = f"/admin/mailings/{mailing_id}/messages"
    listed = {
        delivery: re.findall(r"/admin/messages/(\d+)", (await viewer.get(path, params={"delivery": delivery})).text)
        for delivery in ("delivered", "undelivered", "awaited", "nonsense")
    }
    assert listed == {
        "delivered": [str(each) for each in ids[:2]],
        "undelivered": [str(ids[2])],
        "awaited": [str(ids[3])],
        "nonsense": [str(each) for each in ids],
    }


async def test_a_russian_reader_reads_it_in_russian(viewer: Browser, mailing_id: int, ids: Sequence[int]) -> None:
    viewer.cookies.set("mailing_language", "ru")
    assert "не доставлено 1" in words(await viewer.get(f"/admin/mailings/{mailing_id}"))
    message = words(await viewer.get(f"/admin/messages/{ids[0]}"))
    assert "Доставка доставлено через 12 с после принятия" in message
    assert "Отчёт о доставке: доставлено" in message


@pytest.mark.parametrize("settings", ["probe"], indirect=True)
async def test_nothing_is_said_where_the_provider_sends_no_receipts(
    viewer: Browser, db: Database, mailing_id: int
) -> None:
    [message_id] = await db.add_messages(mailing_id, ["sent"])
    for path in (f"mailings/{mailing_id}", f"mailings/{mailing_id}/messages", f"messages/{message_id}"):
        page = words(await viewer.get(f"/admin/{path}"))
        assert "eliver" not in page
        assert "receipt" not in page

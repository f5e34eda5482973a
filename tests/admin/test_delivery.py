"""What the pages say of receipts, and that they say nothing of them where the provider sends none."""

import re
from collections.abc import Sequence

import httpx
import pytest
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncEngine

from mailing.access.roles import Role
from mailing.settings import Settings
from support.admin import SignedIn
from support.rows import add_mailing, add_messages, run

RECEIPT = """
    INSERT INTO receipt (message_id, mailing_id, state, code, at)
    SELECT id, mailing_id, :state, :code, finished_at + interval '12 s' FROM message WHERE id = :id"""


@pytest.fixture(params=["kannel"])
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    return replace(settings, gateway_provider=request.param, public_url="https://test")


@pytest.fixture
async def ids(engine: AsyncEngine) -> Sequence[int]:
    """Two delivered, one not, one without a receipt."""
    ids = await add_messages(engine, await add_mailing(engine), ["sent"] * 4)
    for message_id, state, code in zip(ids, (3, 3, 2), (None, None, "UNDELIV 27"), strict=False):
        await run(engine, RECEIPT, id=message_id, state=state, code=code)
    return ids


async def words_of(browser: httpx.AsyncClient, path: str) -> str:
    """Return what a person reads."""
    answer = await browser.get(path)
    assert answer.status_code == 200, answer.text
    return " ".join(re.sub("<[^>]+>", " ", answer.text).split())


async def mailing_of(engine: AsyncEngine) -> int:
    found: int = (await run(engine, "SELECT max(id) FROM mailing"))[0][0]
    return found


async def test_the_mailing_says_what_arrived_and_why_the_rest_did_not(
    signed_in: SignedIn, engine: AsyncEngine, ids: Sequence[int]
) -> None:
    assert ids
    browser = await signed_in(Role.VIEWER)
    page = await words_of(browser, f"/admin/mailings/{await mailing_of(engine)}")
    assert "delivered 2" in page
    assert "not delivered 1" in page
    assert "sent, no receipt yet 1" in page
    assert "Delivered 2 / 4" in page
    assert "1 message was not delivered. Its reasons: UNDELIV 27 : 1" in page


async def test_after_three_days_the_mailing_says_that_no_receipt_came(
    signed_in: SignedIn, engine: AsyncEngine, ids: Sequence[int]
) -> None:
    assert ids
    await run(
        engine,
        """UPDATE mailing SET starts_at = now() - interval '5 d', ends_at = now() - interval '73 h',
               started_at = now() - interval '5 d', finished_at = now() - interval '4 d', status = 'finished',
               content_revision = content_revision""",
    )
    page = await words_of(await signed_in(Role.VIEWER), f"/admin/mailings/{await mailing_of(engine)}")
    assert "sent, no receipt came 1" in page


@pytest.mark.parametrize(
    ("number", "sent_ago", "words"),
    [
        (0, "0 s", "Delivery delivered 12 s after it was accepted"),
        (2, "0 s", "Delivery not delivered: UNDELIV 27"),
        (3, "0 s", "Delivery no receipt yet"),
        (3, "73 h", "Delivery no receipt came"),
    ],
)
async def test_a_message_says_what_became_of_it(
    signed_in: SignedIn, engine: AsyncEngine, ids: Sequence[int], number: int, sent_ago: str, words: str
) -> None:
    await run(engine, f"UPDATE message SET finished_at = finished_at - interval '{sent_ago}'")
    browser = await signed_in(Role.VIEWER)
    assert words in await words_of(browser, f"/admin/messages/{ids[number]}")


async def test_messages_are_filtered_by_delivery(signed_in: SignedIn, engine: AsyncEngine, ids: Sequence[int]) -> None:
    browser = await signed_in(Role.VIEWER)
    path = f"/admin/mailings/{await mailing_of(engine)}/messages"
    listed = {
        delivery: re.findall(r"/admin/messages/(\d+)", (await browser.get(path, params={"delivery": delivery})).text)
        for delivery in ("delivered", "undelivered", "awaited", "nonsense")
    }
    assert listed == {
        "delivered": [str(each) for each in ids[:2]],
        "undelivered": [str(ids[2])],
        "awaited": [str(ids[3])],
        "nonsense": [str(each) for each in ids],
    }


async def test_a_russian_reader_reads_it_in_russian(
    signed_in: SignedIn, engine: AsyncEngine, ids: Sequence[int]
) -> None:
    browser = await signed_in(Role.VIEWER)
    browser.cookies.set("mailing_language", "ru")
    assert "не доставлено 1" in await words_of(browser, f"/admin/mailings/{await mailing_of(engine)}")
    message = await words_of(browser, f"/admin/messages/{ids[0]}")
    assert "Доставка доставлено через 12 с после принятия" in message
    assert "Отчёт о доставке: доставлено" in message


@pytest.mark.parametrize("settings", ["probe"], indirect=True)
async def test_nothing_is_said_where_the_provider_sends_no_receipts(signed_in: SignedIn, engine: AsyncEngine) -> None:
    mailing_id = await add_mailing(engine)
    [message_id] = await add_messages(engine, mailing_id, ["sent"])
    browser = await signed_in(Role.VIEWER)
    for path in (f"mailings/{mailing_id}", f"mailings/{mailing_id}/messages", f"messages/{message_id}"):
        page = await words_of(browser, f"/admin/{path}")
        assert "eliver" not in page
        assert "receipt" not in page

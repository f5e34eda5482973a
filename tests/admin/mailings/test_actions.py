"""The pages that ask before something is done to a mailing, and do it."""

import pytest

from support.admin import Browser
from support.answers import entered, words
from support.database import Database


@pytest.mark.parametrize(
    ("action", "status", "said", "notice", "after"),
    [
        ("pause", "running", "2 waiting messages are held back", "2 messages are held back", "paused"),
        ("resume", "paused", "2 waiting messages continue", "was resumed", "running"),
        ("cancel", "running", "2 waiting messages are cancelled", "2 messages are not sent", "cancelled"),
        ("delete", "running", "1 was sent and stays in the totals", "2 messages are not sent", "cancelled"),
    ],
)
async def test_a_page_says_in_numbers_what_will_happen_and_then_it_does(  # noqa: PLR0917 - one case of a table
    db: Database, sender: Browser, action: str, status: str, said: str, notice: str, after: str
) -> None:
    mailing_id, _ = await db.add_mailing_of(["pending", "pending", "sent"], status=status)
    address = f"/admin/mailings/{mailing_id}/{action}"
    assert said in words(await sender.get(address))
    assert await db.value("SELECT status FROM mailing WHERE id = :id", id=mailing_id) == status
    answer = await sender.post(address)
    assert answer.status_code == 303
    assert notice in words(await sender.get("/admin/mailings"))
    assert await db.value("SELECT status FROM mailing WHERE id = :id", id=mailing_id) == after
    actor = await db.value("SELECT actor FROM event WHERE mailing_id = :id", id=mailing_id)
    assert "(sender)" in actor


async def test_what_failed_is_sent_again(db: Database, sender: Browser) -> None:
    client = await db.add_client()
    mailing_id, _ = await db.add_mailing_of(["failed"], first_client=client)
    address = f"/admin/mailings/{mailing_id}/resend-failed"
    assert "1 failed message is sent again" in words(await sender.get(address))
    assert (await sender.post(address)).status_code == 303
    assert await db.value("SELECT status FROM message") == "pending"


@pytest.mark.parametrize(
    ("action", "status"),
    [("pause", "scheduled"), ("resume", "finished"), ("cancel", "finished"), ("resend-failed", "scheduled")],
)
async def test_no_page_asks_about_what_cannot_be_done(db: Database, sender: Browser, action: str, status: str) -> None:
    mailing_id = await db.add_mailing(status=status)
    assert (await sender.get(f"/admin/mailings/{mailing_id}/{action}")).status_code == 409
    assert (await sender.post(f"/admin/mailings/{mailing_id}/{action}")).status_code == 409
    assert (await sender.get(f"/admin/mailings/{mailing_id + 1}/{action}")).status_code == 404


async def test_a_test_goes_to_a_client_and_to_nobody_else(db: Database, sender: Browser) -> None:
    await db.add_client(phone="79161234567")
    mailing_id = await db.add_mailing()
    address = f"/admin/mailings/{mailing_id}/test"
    for phone in ("", "79160000000", "no phone"):
        refused = await sender.post(address, data={"phone": phone})
        assert "Enter the phone of a client" in words(refused, 400)
        assert entered(refused, "phone") == phone
    assert (await sender.post(address, data={"phone": "79161234567"})).status_code == 303
    assert await db.value("SELECT count(*) FROM mailing WHERE test_of_mailing_id = :id", id=mailing_id) == 1
    await db.run("UPDATE client SET opted_out = true")
    assert "has opted out" in words(await sender.post(address, data={"phone": "79161234567"}), 400)


@pytest.mark.parametrize("action", ["pause", "resume", "cancel", "resend-failed", "delete", "test"])
async def test_an_editor_stops_and_sends_nothing(db: Database, editor: Browser, action: str) -> None:
    mailing_id = await db.add_mailing()
    assert (await editor.get(f"/admin/mailings/{mailing_id}/{action}")).status_code == 403
    assert (await editor.post(f"/admin/mailings/{mailing_id}/{action}")).status_code == 403

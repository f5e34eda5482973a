"""Who may do what with a mailing in which state, and what a sender sees before the release."""

import asyncio
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from mailing.access.roles import Role
from mailing.mailings.states import MailingStatus
from support.admin import Browser, SignedIn, mailing_form
from support.answers import words
from support.database import Database

PHONE = "79161234567"
EDITORS = {Role.EDITOR, Role.SENDER, Role.ADMIN}
SENDERS = {Role.SENDER, Role.ADMIN}
CLOSED = {"finished", "cancelled"}

# By action: who may, by status, and the status it leads to. What is not named is refused.
Ways = dict[str, tuple[set[Role], str]]


def staying(*statuses: str, by: set[Role] = SENDERS) -> Ways:
    return {status: (by, status) for status in statuses}


ENDING: Ways = {"draft": (EDITORS, "cancelled")} | dict.fromkeys(
    ("scheduled", "running", "paused", "cancelled"), (SENDERS, "cancelled")
)
AGAIN = staying("running", "paused") | {"finished": (SENDERS, "running")}
WAYS: Mapping[str, Ways] = {
    "edit": staying("draft", "scheduled", by=EDITORS) | staying("running", "paused"),
    "release": {"draft": (SENDERS, "scheduled")} | staying("scheduled", "running", "paused"),
    "pause": dict.fromkeys(("running", "paused"), (SENDERS, "paused")),
    "resume": dict.fromkeys(("running", "paused"), (SENDERS, "running")),
    "cancel": ENDING,
    "delete": ENDING | staying("finished"),
    "resend-failed": AGAIN,
    "test": staying("draft", "scheduled", "running", "paused", "finished"),
    "resolve": AGAIN,
}


async def act(browser: Browser, action: str, mailing_id: int, messages: list[int]) -> httpx.Response:
    if action == "resolve":
        return await browser.post(f"/admin/messages/{messages[0]}/resolve", data={"as": "pending"})
    data: dict[str, dict[str, Any]] = {
        "edit": mailing_form(text="Changed"),
        "release": {"revision": "1"},
        "test": {"phone": PHONE, "revision": "1"},
    }
    return await browser.post(f"/admin/mailings/{mailing_id}/{action}", data=data.get(action, {}))


async def snapshot(db: Database, mailing_id: int) -> list[Any]:
    """Return the mailing with its messages, and the number of test sends."""
    statement = """
        SELECT to_jsonb(g), (SELECT jsonb_agg(to_jsonb(m) ORDER BY m.id) FROM message m WHERE m.mailing_id = g.id),
            (SELECT count(*) FROM mailing WHERE test_of_mailing_id IS NOT NULL)
        FROM mailing g WHERE g.id = :id"""
    return list((await db.run(statement, id=mailing_id))[0])


@pytest.mark.parametrize("action", WAYS)
async def test_each_role_may_in_each_state_what_the_table_says_and_nothing_else_changes_anything(
    db: Database, signed_in: SignedIn, action: str
) -> None:
    client_id = await db.add_client(phone=PHONE)
    await db.add_client(phone="79161234568")  # with the next id
    for role in Role:
        browser = await signed_in(role)
        for status in MailingStatus:
            mailing_id = await db.add_mailing(status=status)
            messages = [0]
            if status not in {"draft", "scheduled"}:
                messages = await db.add_messages(mailing_id, ["unknown", "failed"], first_client=client_id)
            before = await snapshot(db, mailing_id)
            answer = await act(browser, action, mailing_id, messages)
            after = await snapshot(db, mailing_id)
            may, leads_to = WAYS[action].get(status, (set(), ""))
            case = (role, status, answer.status_code)
            if role not in may:
                assert answer.status_code in {400, 403, 404, 409}, case
                assert role in SENDERS or status in CLOSED or action == "resolve" or answer.status_code == 403, case
                assert after == before, case
                continue
            withdrawn = (action, role, status) == ("edit", Role.EDITOR, "scheduled")
            assert (answer.status_code, after[0]["status"]) == (303, "draft" if withdrawn else leads_to), case


async def test_no_editor_s_way_leads_to_a_mailing_that_is_sent(db: Database, editor: Browser) -> None:
    """The start has passed, or is left empty: nothing begins, whatever an editor creates, duplicates or changes."""
    yesterday = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%dT%H:%M}"
    for start in ("", yesterday):
        assert (await editor.post("/admin/mailings/new", data=mailing_form(starts_at=start))).status_code == 303
    scheduled = await db.add_mailing(status="scheduled")
    for start in ("", yesterday):
        answer = await editor.post(f"/admin/mailings/{scheduled}/edit", data=mailing_form(starts_at=start))
        assert answer.status_code == 303
    assert await db.run("SELECT DISTINCT status, started_at FROM mailing") == [("draft", None)]
    assert await db.value("SELECT count(*) FROM procrastinate_jobs") == 0


async def test_the_editor_reads_what_a_draft_waits_for_and_the_sender_finds_the_release(
    db: Database, editor: Browser, sender: Browser
) -> None:
    mailing_id = await db.add_mailing(status="draft")
    for browser in (editor, sender):
        assert "waiting for release" in words(await browser.get("/admin/mailings?status=draft"))
        assert "waiting for release" in words(await browser.get("/admin/"))
    path = f"/admin/mailings/{mailing_id}"
    read_by_editor, read_by_sender = await editor.get(path), await sender.get(path)
    for page in (read_by_editor, read_by_sender):
        assert "A sender's release. Nothing is sent before it" in words(page)
    assert f'href="{path}/release"' not in read_by_editor.text
    assert f'href="{path}/release"' in read_by_sender.text
    for end in ("cancel", "delete", "edit"):
        assert f'{path}/{end}"' in read_by_editor.text


async def test_a_sender_reads_text_times_hours_filter_and_recipients_before_the_release(
    db: Database, editor: Browser, sender: Browser
) -> None:
    await db.add_client(tag="vip")
    await editor.post("/admin/mailings/new", data=mailing_form(text="Read <me>", tags=["vip"], operator_codes=["916"]))
    mailing_id = await db.value("SELECT id FROM mailing")
    asked = await sender.get(f"/admin/mailings/{mailing_id}/release")
    shown = words(asked)
    hours = "09:00\u201321:00"
    for part in ("Read &lt;me&gt;", "vip", "916", hours, "Sending starts automatically at", "Recipients 1 "):
        assert part in shown
    assert "Changed since" not in shown
    revision = re.search(r'name="revision" value="(\d+)"', asked.text)
    assert revision
    answer = await sender.post(f"/admin/mailings/{mailing_id}/release", data={"revision": revision[1]})
    assert answer.status_code == 303
    [row] = await db.run("SELECT status, released_revision, released_by FROM mailing")
    assert tuple(row) == ("scheduled", 1, "user 2 (sender)")


async def test_what_was_changed_while_the_sender_read_is_not_released_but_shown(
    db: Database, editor: Browser, sender: Browser
) -> None:
    mailing_id = await db.add_mailing(status="draft", text="Old words")
    await editor.post(f"/admin/mailings/{mailing_id}/edit", data=mailing_form(text="New words"))
    for read in ({"revision": "1"}, {}, {"revision": "1.0"}, {"revision": "9" * 30}, {"revision": "-2"}):
        refused = words(await sender.post(f"/admin/mailings/{mailing_id}/release", data=read), 409)
        assert "was changed after you read it" in refused
        assert "New words" in refused
    assert await db.value("SELECT status FROM mailing") == "draft"
    assert (await sender.post(f"/admin/mailings/{mailing_id}/release", data={"revision": "2"})).status_code == 303


async def test_the_sender_sees_what_was_changed_since_the_last_release(
    db: Database, editor: Browser, sender: Browser
) -> None:
    mailing_id = await db.add_mailing(status="scheduled", text="Old words")
    path = f"/admin/mailings/{mailing_id}"
    assert "A change withdraws the release by tests" in words(await editor.get(f"{path}/edit"))
    answer = await editor.post(f"{path}/edit", data=mailing_form(text="New words", tags=["vip"]))
    assert answer.status_code == 303
    shown = words(await sender.get(f"{path}/release"))
    assert "Changed since tests released it" in shown
    changes = shown.partition("Changed since")[2].partition("The mailing")[0]
    for part in ("Text Old words", "Tags all", "Local hours at any hour", "Start", "End"):
        assert part in changes
    assert "Operator codes" not in changes


async def test_a_draft_whose_end_has_passed_says_that_it_needs_a_later_one(db: Database, sender: Browser) -> None:
    mailing_id = await db.add_mailing(status="draft")
    await db.run("UPDATE mailing SET starts_at = now() - interval '2 h', ends_at = now() - interval '1 h'")
    path = f"/admin/mailings/{mailing_id}"
    shown = await sender.get(path)
    assert "its end has passed" in words(shown)
    assert f"{path}/release" not in shown.text
    assert "Set a later end" in words(await sender.get(f"{path}/release"), 409)
    assert "Set a later end" in words(await sender.post(f"{path}/release", data={"revision": "1"}), 409)


async def test_a_release_and_an_editor_s_change_at_once_never_release_what_nobody_read(
    db: Database, editor: Browser, sender: Browser
) -> None:
    for _ in range(10):
        mailing_id = await db.add_mailing(status="draft", text="Read")
        path = f"/admin/mailings/{mailing_id}"
        released, _ = await asyncio.gather(
            sender.post(f"{path}/release", data={"revision": "1"}),
            editor.post(f"{path}/edit", data=mailing_form(text="Never read")),
        )
        assert released.status_code in {303, 409}
        [row] = await db.run("SELECT status, text FROM mailing WHERE id = :id", id=mailing_id)
        assert tuple(row) == ("draft", "Never read")


async def test_a_draft_from_before_a_restore_says_that_it_may_have_been_sent(db: Database, sender: Browser) -> None:
    mailing_id = await db.add_mailing(status="draft")
    assert "restored from a backup" not in words(await sender.get(f"/admin/mailings/{mailing_id}/release"))
    await db.run("INSERT INTO restoration (database_identity, finished_at) VALUES ('here', now())")
    assert "restored from a backup" in words(await sender.get(f"/admin/mailings/{mailing_id}/release"))


async def test_a_test_goes_out_with_the_words_that_the_sender_saw(
    db: Database, editor: Browser, sender: Browser
) -> None:
    await db.add_client(phone=PHONE)
    mailing_id = await db.add_mailing(status="draft")
    await editor.post(f"/admin/mailings/{mailing_id}/edit", data=mailing_form(text="New words"))
    path, seen = f"/admin/mailings/{mailing_id}/test", {"phone": PHONE, "revision": "1"}
    assert "was changed after you read it" in words(await sender.post(path, data=seen), 400)
    assert await db.value("SELECT count(*) FROM mailing") == 1
    assert (await sender.post(path, data=seen | {"revision": "2"})).status_code == 303

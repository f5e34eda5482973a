"""The pages of mailings: the list, the form with its plan, and the pages that ask before something is done."""

import re
from datetime import UTC

import pytest

from support.admin import Browser, Form, mailing_form
from support.answers import entered, words
from support.database import Database

# --- the list ---------------------------------------------------------------------------------------------------------


async def test_an_empty_list_says_what_to_do(viewer: Browser, editor: Browser) -> None:
    assert "There are no mailings yet." in words(await viewer.get("/admin/mailings"))
    assert "New mailing" in words(await editor.get("/admin/mailings"))


async def test_the_list_shows_the_newest_first_with_status_and_progress(db: Database, viewer: Browser) -> None:
    await db.add_mailing_of(["sent", "sent", "failed", "pending"], text="The first")
    await db.add_mailing(status="scheduled", text="The <second>")
    answer = await viewer.get("/admin/mailings")
    shown = words(answer)
    assert shown.index("The &lt;second&gt;") < shown.index("The first")
    assert "2 of 4" in shown
    assert '<progress value="3" max="4"' in answer.text
    assert "not started" in shown


async def test_mailings_are_found_by_text_number_and_status(db: Database, viewer: Browser) -> None:
    autumn = await db.add_mailing(text="Осенняя распродажа 100%")
    await db.add_mailing(status="paused", text="Winter_sale")

    async def found(**asked: str) -> list[bool]:
        answer = await viewer.get("/admin/mailings", params=asked)
        return ["Осенняя" in answer.text, "Winter_sale" in words(answer)]

    assert await found(q="ОСЕННЯЯ") == [True, False]
    assert await found(q="%") == [True, False]
    assert await found(q="_") == [False, True]
    assert await found(q=str(autumn)) == [True, False]
    assert await found(status="paused") == [False, True]
    assert await found(status="no such status", q="\x00") == [True, True]
    assert "No mailing matches this search." in words(await viewer.get("/admin/mailings?q=spring"))


async def test_pages_follow_each_other_and_keep_the_search(db: Database, viewer: Browser) -> None:
    for number in range(51):
        await db.add_mailing(text=f"Sale number {number:02}")
    first = await viewer.get("/admin/mailings?q=sale")
    onward = re.search(r'href="([^"]+)" rel="next"', first.text)
    assert onward
    second = words(await viewer.get(onward[1].replace("&amp;", "&")))
    assert ("number 01" in first.text, "number 00" in first.text) == (True, False)
    assert ("number 01" in second, "number 00" in second, "First page" in second) == (False, True, True)


# --- the form ---------------------------------------------------------------------------------------------------------


async def test_a_form_creates_a_mailing_in_the_zone_that_it_names(db: Database, editor: Browser) -> None:
    await db.add_client(tag="vip")
    given = mailing_form(text="Hello\r\nthere", tags=["vip"], operator_codes=["916", "903"])
    answer = await editor.post("/admin/mailings/new", data=given)
    [row] = await db.run("SELECT * FROM mailing")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/admin/mailings/{row.id}")
    assert (row.text, row.tags, row.operator_codes) == ("Hello\nthere", ["vip"], ["916", "903"])
    assert (row.starts_at.astimezone(UTC).hour, row.ends_at.astimezone(UTC).hour) == (7, 17)
    assert (f"{row.window_start:%H:%M}", f"{row.window_end:%H:%M}") == ("09:00", "21:00")
    actor = await db.value("SELECT actor FROM event WHERE kind = 'mailing.created'")
    assert re.fullmatch(r"user \d+ \(editor\)", actor)


async def test_a_form_that_is_refused_names_each_field_and_keeps_what_was_entered(
    db: Database, editor: Browser
) -> None:
    await db.add_client(tag="vip")
    given = mailing_form(text=" ", ends_at="2020-01-01T10:00", window_end="", tags=["vip"])
    answer = await editor.post("/admin/mailings/new", data=given)
    shown = words(answer, 400)
    for rule in (
        "Enter a text of 1 to 1,600",
        "Enter an end: a date and time in the future",
        "Enter two different times of day",
    ):
        assert shown.count(rule) == 2  # beside the field, and at the top
    assert entered(answer, "ends_at") == "2020-01-01T10:00"
    assert re.search(r'value="vip" checked', answer.text)
    assert await db.value("SELECT count(*) FROM mailing") == 0


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"zone": "Mars/Olympus"}, "Enter the name of a time zone"),
        ({"zone": "Europe/Berlin", "starts_at": "2098-03-30T02:30", "ends_at": "2098-03-31T00:00"}, "Enter a start"),
        ({"starts_at": "tomorrow"}, "Enter a start"),
        ({"starts_at": "0001-01-01T00:00"}, "Enter a start"),
        ({"ends_at": "9999-12-31T23:59"}, "Enter an end"),
        ({"text": "a\x00b"}, "Enter a text"),
        ({"operator_codes": ["9166"]}, "Choose up to 100 operator codes"),
        ({"tags": ["vip\x00"], "find_tags": "\x00"}, "Choose up to 100 tags"),
        ({"tags": [str(number) for number in range(101)]}, "Choose up to 100 tags"),
    ],
)
async def test_what_is_no_mailing_is_refused_with_the_rule(
    editor: Browser, changes: dict[str, str | list[str]], rule: str
) -> None:
    """The clocks of Berlin skip 02:30 on the last Sunday of March."""
    assert rule in words(await editor.post("/admin/mailings/new", data=mailing_form(**changes)), 400)


async def test_to_begin_at_once_is_for_a_sender(db: Database, editor: Browser, sender: Browser) -> None:
    for browser in (editor, sender):
        answer = await browser.post("/admin/mailings/new", data=mailing_form(starts_at=""))
        assert answer.status_code == 303
    assert await db.run("SELECT status FROM mailing ORDER BY id") == [("draft",), ("running",)]


async def test_a_duplicate_begins_with_the_same_fields_at_a_time_to_come(db: Database, editor: Browser) -> None:
    original = await db.add_mailing(status="finished", text="Again, please")
    answer = await editor.get(f"/admin/mailings/new?like={original}")
    assert "Again, please" in answer.text
    fields: Form = {name: entered(answer, name) for name in ("starts_at", "ends_at", "zone")}
    assert (await editor.post("/admin/mailings/new", data=mailing_form(**fields))).status_code == 303
    assert await db.value("SELECT status FROM mailing WHERE id <> :id", id=original) == "draft"


async def test_an_edit_that_touches_no_time_keeps_it_to_the_second(db: Database, sender: Browser) -> None:
    mailing_id = await db.add_mailing()
    shown = await sender.get(f"/admin/mailings/{mailing_id}/edit")
    assert "This mailing has started." in words(shown)
    fields: Form = {"text": "Reworded", "zone": entered(shown, "zone"), "ends_at": entered(shown, "ends_at")}
    [before] = await db.run("SELECT starts_at, ends_at FROM mailing")
    answer = await sender.post(f"/admin/mailings/{mailing_id}/edit", data=fields)
    assert answer.status_code == 303
    assert (await db.run("SELECT starts_at, ends_at FROM mailing"))[0] == before
    assert await db.value("SELECT text FROM mailing") == "Reworded"


async def test_what_another_saved_while_the_form_was_open_is_shown_and_not_lost(db: Database, sender: Browser) -> None:
    mailing_id = await db.add_mailing()
    path = f"/admin/mailings/{mailing_id}/edit"
    shown = await sender.get(path)
    fields: Form = {name: entered(shown, name) for name in ("zone", "ends_at", "revision")}
    assert (await sender.post(path, data=fields | {"text": "20 % off"})).status_code == 303
    late = fields | {"text": "50 % off", "window_start": "10:00", "window_end": "20:00"}
    answer = await sender.post(path, data=late)
    assert "Changed while this form was open. It is now: 20 % off." in words(answer, 400)
    assert "50 % off" in words(answer, 400)
    assert await db.value("SELECT text FROM mailing") == "20 % off"
    again = late | {"revision": entered(answer, "revision")}
    assert (await sender.post(path, data=again)).status_code == 303
    assert await db.value("SELECT text FROM mailing") == "50 % off"


async def test_an_editor_changes_only_what_has_not_begun(db: Database, editor: Browser) -> None:
    running, ahead = await db.add_mailing(), await db.add_mailing(status="scheduled")
    assert "Only a sender can change" in words(await editor.get(f"/admin/mailings/{running}/edit"), 403)
    typed = mailing_form(text="Typed before it began")
    refused = words(await editor.post(f"/admin/mailings/{running}/edit", data=typed), 403)
    assert "Only a sender can change" in refused
    assert "Typed before it began" in refused
    assert (await editor.post(f"/admin/mailings/{ahead}/edit", data=mailing_form())).status_code == 303
    assert await db.run("SELECT id FROM mailing WHERE status = 'draft'") == [(ahead,)]
    finished = await db.add_mailing(status="finished")
    assert (await editor.get(f"/admin/mailings/{finished}/edit")).status_code == 409
    refused = words(await editor.post(f"/admin/mailings/{finished}/edit", data=typed), 409)
    assert "create a new one" in refused
    assert "Typed before it began" in refused


# --- the plan beside the form -----------------------------------------------------------------------------------------


async def test_the_plan_is_shown_while_the_form_is_filled_in(db: Database, editor: Browser) -> None:
    for number in range(3):
        await db.add_client(phone=f"7916000000{number}", tag="vip")
    await db.add_client(phone="79160000009")
    given = mailing_form(text="Only – today", tags=["vip"])  # noqa: RUF001 - not the hyphen
    part = await editor.post("/admin/mailings/plan", data=given, headers={"HX-Request": "true"})
    assert "<html" not in part.text
    shown = words(part)
    assert "Recipients 3" in shown
    assert "another tag 1" in shown
    assert "If this character is replaced, an SMS holds 160 characters instead of 70:" in shown
    assert part.text.count('<rect class="bar"') == 1
    assert "style=" not in part.text


async def test_without_a_script_a_button_shows_the_plan_in_the_same_form(db: Database, editor: Browser) -> None:
    await db.add_client()
    whole = await editor.post("/admin/mailings/plan", data=mailing_form(text="Still a draft"))
    assert "Recipients 1" in words(whole)
    assert "Still a draft</textarea>" in whole.text
    unfinished = words(await editor.post("/admin/mailings/plan", data=mailing_form(ends_at="", text="Привет")), 400)
    assert "Enter an end" in unfinished
    assert "6 characters: 1 SMS for each recipient, 64 left." in unfinished


async def test_the_plan_of_an_edit_says_what_would_be_cancelled(db: Database, sender: Browser) -> None:
    client = await db.add_client(tag="old")
    mailing_id, _ = await db.add_mailing_of(["pending"], first_client=client)
    address = f"/admin/mailings/plan?mailing_id={mailing_id}"
    shown = words(await sender.post(address, data=mailing_form(tags=["new"]), headers={"HX-Request": "true"}))
    assert "1 waiting message would be cancelled." in shown
    assert "No client would get this mailing." in shown


async def test_a_viewer_only_reads(db: Database, viewer: Browser) -> None:
    mailing_id = await db.add_mailing(status="scheduled")
    assert (await viewer.get("/admin/mailings")).status_code == 200
    for address in ("new", f"{mailing_id}/edit"):
        assert (await viewer.get(f"/admin/mailings/{address}")).status_code == 403
        assert (await viewer.post(f"/admin/mailings/{address}", data=mailing_form())).status_code == 403
    assert (await viewer.post("/admin/mailings/plan", data=mailing_form())).status_code == 403

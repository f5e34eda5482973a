import asyncio
import re
from urllib.parse import parse_qsl

import httpx
import pytest

from support.admin import Browser
from support.answers import entered, words
from support.database import LOCK_WAITS, Database

PHONE = "79161234567"
FORM = {"phone": PHONE, "operator_code": "", "tag": "vip", "timezone": "Europe/Moscow", "was_opted_out": ""}


def phones(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return re.findall(r'<td><a href="/admin/clients/\d+">(\d{11})</a>', answer.text)


async def test_a_list_without_clients_says_what_to_do(editor: Browser, viewer: Browser) -> None:
    assert "Add one, or upload a CSV file" in (await editor.get("/admin/clients")).text
    assert "An editor can add them." in (await viewer.get("/admin/clients")).text


async def test_clients_are_found_by_what_people_type(viewer: Browser, db: Database) -> None:
    await db.add_client(phone=PHONE, tag="vip")
    await db.add_client(phone="79031230067")
    for query, found in [
        ("begins=8 (916) 123-45", [PHONE]),
        ("begins=%2B7 916", [PHONE]),
        ("begins=916", [PHONE]),
        ("ends=67", ["79031230067", PHONE]),
        ("ends=4567&tag=vip", [PHONE]),
        ("tag=vip", [PHONE]),
        ("operator_code=903&timezone=Europe/Moscow&opted_out=no", ["79031230067"]),
        ("opted_out=yes", []),
        ("tag=%00&timezone=%00", [PHONE, "79031230067"]),
    ]:
        answer = await viewer.post("/admin/clients", data=dict(parse_qsl(query)), follow_redirects=True)
        assert sorted(phones(answer)) == sorted(found), query
        assert not re.search("[0-9]{2}", str(answer.url.query).replace("903", "")), "no digits of a phone in an address"
    assert "No client matches" in (await viewer.get("/admin/clients?tag=nobody")).text


async def test_what_are_no_digits_is_an_error_beside_its_field(viewer: Browser) -> None:
    answer = await viewer.post("/admin/clients", data={"ends": "ivan", "begins": "123456789012"})
    assert answer.status_code == 400
    assert answer.text.count('aria-invalid="true"') == 2
    assert 'value="ivan"' in answer.text


async def test_pages_of_a_search_by_phone_lead_on_and_back_without_a_phone_in_an_address(
    viewer: Browser, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailing.admin.clients.routes.PAGE_SIZE", 2)
    for n in range(5):
        await db.add_client(phone=f"7916000000{n}")

    async def press(shown: httpx.Response, relation: str) -> httpx.Response:
        pager = shown.text.partition('<nav class="pager"')[2]
        (sent,) = [each for each in pager.split("</form>") if f'data-page="{relation}"' in each]
        return await viewer.post("/admin/clients", data=dict(re.findall(r'name="(\w+)" value="([^"]*)"', sent)))

    first = await viewer.post("/admin/clients", data={"begins": "7916"})
    second = await press(first, "next")
    third = await press(second, "next")
    assert [phone[-1] for page in (first, second, third) for phone in phones(page)] == list("01234")
    assert 'data-page="next"' not in third.text
    assert phones(await press(second, "prev")) == phones(first) == phones(await press(third, "first"))
    assert re.findall(r'(?:href|action)="[^"]*7916', first.text + second.text + third.text) == []
    assert phones(await viewer.get("/admin/clients?begins=79160000004")) == phones(first), (
        "an address asks for no phone"
    )


async def test_pages_lead_on_and_back_and_keep_the_search(
    viewer: Browser, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailing.admin.clients.routes.PAGE_SIZE", 2)
    for n in range(5):
        await db.add_client(phone=f"7916000000{n}", tag="a&b")
    first = await viewer.get("/admin/clients", params={"tag": "a&b"})
    second = await viewer.get(link(first, "next"))
    third = await viewer.get(link(second, "next"))
    assert [phone[-1] for page in (first, second, third) for phone in phones(page)] == list("01234")
    assert 'rel="next"' not in third.text
    assert phones(await viewer.get(link(second, "prev"))) == phones(first)
    for nonsense in ("after=-1", "before=x", "after=99999999999999999999"):
        assert phones(await viewer.get(f"/admin/clients?{nonsense}")) == phones(first)


def link(answer: httpx.Response, rel: str) -> str:
    found = re.search(rf'<a href="([^"]+)" rel="{rel}"', answer.text)
    assert found, answer.text
    return found[1].replace("&amp;", "&")


async def test_a_client_is_added_changed_and_deleted(editor: Browser, db: Database) -> None:
    added = await editor.post("/admin/clients/new", data=FORM)
    assert (added.status_code, added.headers["location"]) == (303, "/admin/clients/1")
    shown = (await editor.get("/admin/clients/1")).text
    assert "The client was added." in shown
    assert PHONE in shown
    changed = await editor.post("/admin/clients/1/edit", data=FORM | {"tag": "", "opted_out": "yes"})
    assert changed.status_code == 303
    client = await db.run("SELECT tag, opted_out, operator_code FROM client")
    assert client == [(None, True, "916")]
    assert "opted out" in (await editor.get("/admin/clients/1")).text
    assert await db.value("SELECT actor FROM event WHERE kind = 'client.opted_out'") == "user 1 (editor)"
    assert (await editor.post("/admin/clients/1/delete")).headers["location"] == "/admin/clients"
    assert (await editor.get("/admin/clients/1")).status_code == 404


async def test_every_bad_field_is_named_and_what_was_typed_stays(editor: Browser) -> None:
    typed = {"phone": "8 916", "operator_code": "9", "tag": "<b>\t", "timezone": "UTC+3"}
    answer = await editor.post("/admin/clients/new", data=typed)
    assert answer.status_code == 400
    assert answer.text.count('aria-invalid="true"') == 3
    assert "Phone: must be a Russian phone of 11 digits" in answer.text
    assert "not an offset; Etc/GMT-3 is this one" in answer.text
    for shown in ('value="8 916"', 'value="UTC+3"', "&lt;b&gt;"):
        assert shown in answer.text
    assert answer.headers["content-type"].startswith("text/html")


async def test_a_phone_that_is_taken_leads_to_its_client(editor: Browser, db: Database) -> None:
    owner = await db.add_client(phone=PHONE)
    other = await db.add_client(phone="79160000001")
    for path in ("/admin/clients/new", f"/admin/clients/{other}/edit"):
        answer = await editor.post(path, data=FORM)
        assert answer.status_code == 400
        assert "Phone: belongs to another client" in answer.text
        assert f'href="/admin/clients/{owner}"' in answer.text


async def test_an_opt_out_that_came_while_the_form_was_open_stays(editor: Browser, db: Database) -> None:
    await db.add_client(phone=PHONE)
    await db.run("UPDATE client SET opted_out = true")
    assert (await editor.post("/admin/clients/1/edit", data=FORM)).status_code == 303
    assert await db.value("SELECT opted_out FROM client") is True
    assert (await editor.post("/admin/clients/1/edit", data=FORM | {"was_opted_out": "yes"})).status_code == 303
    assert await db.value("SELECT opted_out FROM client") is False


async def test_what_another_saved_while_the_form_was_open_is_shown_and_not_lost(editor: Browser, db: Database) -> None:
    await db.add_client(phone=PHONE)
    path = "/admin/clients/1/edit"
    open_form = FORM | {"revision": entered(await editor.get(path), "revision")}
    assert (await editor.post(path, data=open_form | {"timezone": "Asia/Omsk"})).status_code == 303
    answer = await editor.post(path, data=open_form | {"tag": "gold"})
    assert "Changed while this form was open. It is now: Asia/Omsk." in words(answer, 400)
    assert await db.value("SELECT timezone FROM client") == "Asia/Omsk"
    again = open_form | {"timezone": "Asia/Omsk", "tag": "gold", "revision": entered(answer, "revision")}
    assert (await editor.post(path, data=again)).status_code == 303
    assert await db.run("SELECT timezone, tag FROM client") == [("Asia/Omsk", "gold")]


async def test_of_two_who_save_at_the_same_moment_the_later_one_sees_what_the_other_changed(
    editor: Browser, db: Database
) -> None:
    await db.add_client(phone=PHONE)
    path = "/admin/clients/1/edit"
    open_form = FORM | {"revision": entered(await editor.get(path), "revision")}
    async with db.engine.connect() as other, asyncio.TaskGroup() as tasks:
        await other.exec_driver_sql("SELECT FROM client FOR UPDATE")
        both = [tasks.create_task(editor.post(path, data=open_form | {"tag": tag})) for tag in ("gold", "silver")]
        await db.comes(LOCK_WAITS, 2)
        await other.rollback()
    assert sorted(task.result().status_code for task in both) == [303, 400]


async def test_the_client_s_page_says_who_opted_out_when_and_why(editor: Browser, db: Database) -> None:
    await db.add_client(phone=PHONE)
    assert (await editor.post("/admin/clients/1/edit", data=FORM | {"opted_out": "yes"})).status_code == 303
    since = await db.value("SELECT since FROM suppression")
    page = (await editor.get("/admin/clients/1")).text
    assert f'<time datetime="{since.isoformat()}">' in page
    assert "</time> · user 1 (<bdi>editor</bdi>) · the client opted out" in page


async def test_before_a_deletion_its_consequences_are_named_in_numbers(editor: Browser, db: Database) -> None:
    client = await db.add_client()
    for status in ("pending", "pending", "sent"):
        await db.add_mailing_of([status], first_client=client)
    asked = (await editor.get(f"/admin/clients/{client}/delete")).text
    assert "2 unsent messages are cancelled." in asked
    assert "1 finished message stays in the statistics" in asked
    await editor.post(f"/admin/clients/{client}/delete")
    statuses = await db.run("SELECT status FROM message ORDER BY id")
    assert [each.status for each in statuses] == ["cancelled", "cancelled", "sent"]


async def test_a_client_has_its_messages_newest_first(
    viewer: Browser, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailing.admin.clients.routes.MAX_MESSAGES", 2)
    client = await db.add_client()
    for status in ("sent", "failed", "pending"):
        await db.add_mailing_of([status], first_client=client)
    first = await viewer.get(f"/admin/clients/{client}")
    assert re.findall(r"/admin/messages/(\d+)", first.text) == ["3", "2"]
    assert re.findall(r"/admin/messages/(\d+)", (await viewer.get(link(first, "next"))).text) == ["1"]
    for number in ("%00", "1e1", "01", "0", "%D9%A3"):
        assert (await viewer.get(f"/admin/clients/{client}?before={number}")).status_code == 400


async def test_only_editors_change_or_export(viewer: Browser, db: Database) -> None:
    client = await db.add_client()
    for path in ("new", f"{client}/edit", f"{client}/delete", "export", "upload", "uploads/1"):
        assert (await viewer.get(f"/admin/clients/{path}")).status_code == 403
    for path in ("new", f"{client}/edit", f"{client}/delete", "upload", "uploads/1/import", "uploads/1/discard"):
        assert (await viewer.post(f"/admin/clients/{path}", data=FORM)).status_code == 403
    shown = (await viewer.get(f"/admin/clients/{client}")).text + (await viewer.get("/admin/clients")).text
    assert "/edit" not in shown
    assert "/export" not in shown
    assert await db.value("SELECT count(*) FROM client") == 1


async def test_the_export_is_the_file_that_the_api_gives(editor: Browser, db: Database) -> None:
    await db.add_client(phone=PHONE, tag="=vip")
    answer = await editor.get("/admin/clients/export")
    assert answer.text == f"\ufeffphone,operator_code,tag,timezone,opted_out\r\n{PHONE},916,'=vip,Europe/Moscow,no\r\n"
    assert answer.headers["content-disposition"] == 'attachment; filename="clients.csv"'
    assert answer.headers["cache-control"] == "no-store"


async def test_the_pages_speak_russian(editor: Browser, db: Database) -> None:
    client = await db.add_client()
    editor.cookies.set("mailing_language", "ru")
    refused = await editor.post("/admin/clients/new", data=FORM | {"phone": "8", "timezone": "moscow"})
    assert "Телефон: нужен российский номер из 11 цифр" in refused.text
    assert "возможно, Europe/Moscow?" in refused.text
    for total, told in ((1, "1 неотправленное сообщение будет отменено."), (5, "5 неотправленных сообщений будут")):
        while await db.value("SELECT count(*) FROM message") < total:
            await db.add_mailing_of(["pending"], first_client=client)
        assert told in (await editor.get(f"/admin/clients/{client}/delete")).text

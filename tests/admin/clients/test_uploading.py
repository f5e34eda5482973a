import asyncio
import re
from collections.abc import AsyncIterator

import httpx
import pytest

from mailing.clients.upload import actions, job, repository
from mailing.database.engine import transaction
from mailing.reasons.refusals import RefusalCode
from mailing.translations import translations
from support.admin import Browser
from support.database import Database
from support.uploads import HEADER, counted, file_of

RUNNING = asyncio.Event()
HERE = "/admin/clients/uploads/1"
PART = b'--x\r\nContent-Disposition: form-data; name="file"'


async def uploaded(editor: Browser, file: bytes, name: str = "June.csv") -> httpx.Response:
    return await editor.post("/admin/clients/upload", files={"file": (name, file, "text/csv")})


async def test_a_file_is_looked_at_confirmed_and_imported(editor: Browser, db: Database) -> None:
    sent = await uploaded(editor, file_of(3, bad=1))
    assert (sent.status_code, sent.headers["location"]) == (303, HERE)
    seen = (await editor.get(HERE)).text
    assert seen.count("new client") == 3
    assert "All rows of the file" in seen
    assert "8916,,vip,Mars" in seen
    assert (await editor.post(f"{HERE}/import")).headers["location"] == HERE
    waiting = (await editor.get(HERE)).text
    assert 'hx-trigger="every 2s"' in waiting
    assert f'<a href="{HERE}">Refresh</a>' in waiting
    await job.import_upload(db.sessions, RUNNING, 1)
    done = (await editor.get(HERE)).text
    assert "hx-trigger" not in done
    assert re.findall(r"<dd>(\d+)</dd>", done) == ["3", "0", "1"]
    rejected = await editor.get(f"{HERE}/rejected-rows")
    assert rejected.headers["content-disposition"] == 'attachment; filename="left-out-1.csv"'
    assert rejected.text.splitlines()[1].startswith('5,phone,"must be a Russian phone')
    assert "June.csv" in (await editor.get("/admin/clients/upload")).text


async def test_a_discarded_file_leaves_nothing(editor: Browser, db: Database) -> None:
    await uploaded(editor, file_of(1))
    assert (await editor.post(f"{HERE}/discard")).headers["location"] == "/admin/clients/upload"
    assert await counted(db, "upload") == 0
    assert (await editor.get(HERE)).status_code == 404


async def test_what_is_being_imported_cannot_be_discarded(editor: Browser) -> None:
    await uploaded(editor, file_of(1))
    await editor.post(f"{HERE}/import")
    assert (await editor.post(f"{HERE}/discard")).status_code == 409
    assert (await editor.post(f"{HERE}/import")).status_code == 303


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (b"", "The file is empty"),
        (b"PK\x03\x04\x14\x00\x06\x00", "The file is a workbook (.xlsx or .ods)"),
        (HEADER.replace("phone", "fone").encode("utf-16"), "Column 1 is unknown"),
        (b"phone\n", "Column timezone is missing"),
    ],
)
async def test_a_file_that_cannot_be_read_is_refused_with_the_reason(editor: Browser, file: bytes, said: str) -> None:
    answer = await uploaded(editor, file)
    assert answer.status_code == 400
    assert said in answer.text


async def test_no_file_and_no_form_are_refused(editor: Browser) -> None:
    for form in (
        await editor.post("/admin/clients/upload"),
        await editor.post("/admin/clients/upload", data={"file": "x"}),
        await editor.post("/admin/clients/upload", files={"file": ("", b"x")}),
        await broken(editor, PART + b"\r\n\r\n\xff\r\n--x--\r\n"),
        await broken(editor, PART + b"\r\nContent-Type: text/plain; charset=none\r\n\r\na\r\n--x--\r\n"),
    ):
        assert form.status_code == 400
        assert "Choose a file first." in form.text
    assert (await broken(editor, b"--x\r\n")).status_code == 400


async def broken(editor: Browser, body: bytes, **more: str) -> httpx.Response:
    headers = {"Content-Type": "multipart/form-data; boundary=x"} | more
    return await editor.post("/admin/clients/upload", content=body, headers=headers)


async def test_a_file_over_the_limit_is_refused_with_the_limit(
    editor: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "MAX_FILE_BYTES", 100)
    answer = await uploaded(editor, file_of(10))
    assert answer.status_code == 400
    assert "split it into several files" in answer.text


async def test_a_body_over_the_limit_is_not_read(editor: Browser) -> None:
    answer = await broken(editor, b"--x\r\n", **{"Content-Length": "300000000"})
    assert answer.status_code == 400
    assert "Is larger than 200 MB; split it into several files." in answer.text


async def test_one_file_too_many_is_answered_429_with_what_to_do_and_the_files_to_do_it_with(
    editor: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "MAX_USER_FILES", 1)
    monkeypatch.setattr("mailing.admin.clients.uploading.MAX_UPLOADS", 1)
    await uploaded(editor, file_of(1), name="mine.csv")
    answer = await uploaded(editor, file_of(1))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
    assert "1 files or 500 MB of yours may wait at once; import or discard one first." in answer.text
    assert "mine.csv" in answer.text
    editor.cookies.set("mailing_language", "ru")
    assert "сначала импортируйте или удалите один из них" in (await uploaded(editor, file_of(1))).text
    await editor.post(f"{HERE}/discard")
    assert (await uploaded(editor, file_of(1))).status_code == 303


async def test_more_uploads_than_may_be_at_once_are_refused_before_they_are_read(editor: Browser, db: Database) -> None:
    """One whose file comes slowly does not hold a connection, and two of a user keep a third out."""
    begun, may_end = asyncio.Semaphore(0), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        begun.release()
        yield b"--x\r\n"
        await may_end.wait()

    kind = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": "5"}
    both = [asyncio.create_task(editor.post("/admin/clients/upload", content=slow(), headers=kind)) for _ in range(2)]
    for _ in both:
        await begun.acquire()
    refused = await uploaded(editor, file_of(1))
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
    assert "You have 2 imports in progress" in refused.text
    may_end.set()
    assert [answer.status_code for answer in await asyncio.gather(*both)] == [400, 400]
    assert (await uploaded(editor, file_of(1))).status_code == 303
    assert await counted(db, "upload") == 1


async def test_why_an_import_failed_is_said(editor: Browser, db: Database) -> None:
    await uploaded(editor, b"\n" * 300_000 + b"name\n")
    assert "The file has no rows below the first line." in (await editor.get(HERE)).text
    await editor.post(f"{HERE}/import")
    await job.import_upload(db.sessions, RUNNING, 1)
    shown = (await editor.get(HERE)).text
    assert "Nothing was imported:" in shown
    assert "column phone is missing" in shown


async def test_rejected_fields_are_explained_in_the_viewers_language(editor: Browser, db: Database) -> None:
    editor.cookies.set("mailing_language", "ru")
    cells = [",9,,UTC", ",,\x01,UTC", ",,,UTC+3", ",,,omsk", "", ',"a"b,,UTC']
    rows = ["8,,,UTC", *(f"79160000001{rest}" for rest in cells), "\udcff,,,UTC", "x" * 70_000]
    file = (HEADER + "\n".join(rows) + "\n").encode("utf-8", "surrogateescape")
    assert (await uploaded(editor, file)).status_code == 303
    assert_russian((await editor.get(HERE)).text, len(rows))
    await editor.post(f"{HERE}/import")
    await job.import_upload(db.sessions, RUNNING, 1)
    assert_russian((await editor.get(HERE)).text, len(rows))
    assert "Нет столбца timezone." in (await uploaded(editor, b"phone\n")).text


async def test_what_broke_an_import_off_is_said_in_the_viewers_language(editor: Browser, db: Database) -> None:
    await uploaded(editor, (HEADER + "79160000001,,,UTC\n").encode())
    await editor.post(f"{HERE}/import")
    async with transaction(db.sessions) as session:
        mine = await repository.claim_import(session, 1)
        assert mine
        await repository.record_interruption(session, mine, cause=RefusalCode.silent)
    shown = (await editor.get(HERE)).text
    assert "The import was interrupted and nothing was saved. It restarts within a minute:" in shown
    assert f"<li>{RefusalCode.silent.english}</li>" in shown
    assert "база данных не ответила вовремя" in (await editor.get(HERE, headers={"Accept-Language": "ru"})).text


def assert_russian(shown: str, rows: int) -> None:
    assert "must be" not in shown
    assert not re.search(r"\b(has|is|column)\b [^=]", re.sub(r"<[^>]*>", "", shown))
    assert shown.count("<code ") == rows


def test_every_sentence_about_fields_and_rows_has_a_translation() -> None:
    russian = translations("ru")
    assert [code.english for code in RefusalCode if russian.gettext(code.english) == code.english] == []

"""Import and export against a real database."""

import asyncio
import threading
import tracemalloc
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from mailing.clients import csv_transfer, csv_validation
from mailing.clients.csv_reader import CsvReader, ParsedRow
from mailing.database.engine import transaction
from mailing.sending.plan import plan_mailing
from support.answers import bad_fields, problem_of
from support.api import Api
from support.client_requests import imported, in_pieces, uploaded
from support.database import Database

HEADER = "phone,operator_code,tag,timezone\n"
NOTHING = {"created": 0, "updated": 0, "normalised": 0, "opted_out": 0, "rejected": 0, "errors": []}


async def stored(db: Database) -> dict[str, tuple[object, ...]]:
    rows = await db.run("SELECT phone, operator_code, tag, timezone, opted_out FROM client")
    return {row[0]: tuple(row[1:]) for row in rows}


async def exported(db: Database) -> str:
    return b"".join([chunk async for chunk in csv_transfer.export_clients(db.sessions)]).decode()


async def test_of_a_thousand_rows_the_seven_bad_ones_are_named_and_the_others_stored(api: Api, db: Database) -> None:
    lines = [f"7916{n:07d},,,Europe/Moscow\n" for n in range(1000)]
    bad = {
        3: ("7.9E+10,,,Europe/Moscow\n", "phone"),
        50: ("79160000050,9,,Europe/Moscow\n", "operator_code"),
        99: ("79160000099,,a\x00b,Europe/Moscow\n", "tag"),
        500: ("79160000500,,,UTC+3\n", "timezone"),
        501: ("79160000501,,\n", "row"),
        777: (",,,Europe/Moscow\n", "phone"),
        999: ("79160000999,,,\n", "timezone"),
    }
    for place, (line, _) in bad.items():
        lines[place] = line
    result = await uploaded(api, HEADER + "".join(lines))
    assert (result["created"], result["updated"], result["rejected"]) == (993, 0, 7)
    assert [(error["line"], error["field"]) for error in result["errors"]] == [
        (place + 2, field) for place, (_, field) in bad.items()
    ]
    assert len(await stored(db)) == 993


async def test_an_import_updates_what_it_names_and_keeps_opt_outs(api: Api, db: Database) -> None:
    await api.post("/clients", json={"phone": "79161234567", "timezone": "UTC", "tag": "old", "opted_out": True})
    await api.post("/clients", json={"phone": "79161234568", "timezone": "UTC", "tag": "same", "operator_code": "999"})
    file = HEADER + "79161234567,925,new,Asia/Omsk\n79161234568,999,same,UTC\n79161234569,,,UTC\n"
    assert await uploaded(api, file) == NOTHING | {"created": 1, "updated": 2}
    assert await stored(db) == {
        "79161234567": ("925", "new", "Asia/Omsk", True),
        "79161234568": ("999", "same", "UTC", False),
        "79161234569": ("916", None, "UTC", False),
    }


async def test_a_column_that_is_not_in_the_file_changes_nothing(api: Api, db: Database) -> None:
    await api.post("/clients", json={"phone": "79161234567", "timezone": "UTC", "tag": "vip", "operator_code": "925"})
    await uploaded(api, "timezone,phone\nAsia/Omsk,79161234567\nUTC,79161234568\n")
    assert await stored(db) == {
        "79161234567": ("925", "vip", "Asia/Omsk", False),
        "79161234568": ("916", None, "UTC", False),
    }
    await uploaded(api, HEADER + "79161234567,,,UTC\n")
    assert (await stored(db))["79161234567"] == ("916", None, "UTC", False)


async def test_of_rows_with_one_phone_the_last_counts_as_if_stored_one_after_another(api: Api, db: Database) -> None:
    file = HEADER + "79161234567,,first,UTC\n79161234568,,,UTC\n79161234567,,second,UTC\n79161234567,,last,Asia/Omsk\n"
    for counts in ({"created": 2, "updated": 2}, {"updated": 4}):
        assert await uploaded(api, file) == NOTHING | counts
        assert (await stored(db))["79161234567"] == ("916", "last", "Asia/Omsk", False)


async def test_imports_follow_each_other_on_one_connection_and_in_one_transaction(db: Database) -> None:
    async with transaction(db.sessions) as session:
        for start in (0, 5, 10):
            file = HEADER + "".join(f"7916{n:07d},,,UTC\n" for n in range(start, start + 10))
            result = await csv_transfer.import_clients(session, in_pieces(file), by="tests")
            assert (result.created, result.updated) == ((10, 0) if start == 0 else (5, 5))


async def test_two_imports_of_the_same_phones_in_opposite_order_do_not_hinder_each_other(db: Database) -> None:
    lines = [f"7916{n:07d},,{{tag}},UTC\n" for n in range(3000)]
    files = [HEADER + "".join(lines).format(tag="up"), HEADER + "".join(reversed(lines)).format(tag="down")]
    results = await asyncio.gather(*(imported(db, file) for file in files))
    assert sorted((result.created, result.updated) for result in results) == [(0, 3000), (3000, 0)]
    again = [file.replace("UTC", "Asia/Omsk") for file in files]
    results = await asyncio.gather(*(imported(db, file) for file in again))
    assert [result.updated for result in results] == [3000, 3000]
    assert len({fields[1] for fields in (await stored(db)).values()}) == 1


async def test_known_clients_are_read_a_few_times_whatever_the_statistics_say(db: Database) -> None:
    """After everything was deleted, the planner takes the table for empty until it is analysed."""
    await db.run("UPDATE pg_class SET relpages = 1000, reltuples = 0 WHERE oid = 'client'::regclass")
    lines = "".join(f"7916{n:07d},{{tag}},UTC\n" for n in range(1500))
    file = "phone,tag,timezone\n" + lines
    await imported(db, file.format(tag="old"))
    assert await db.value("SELECT reltuples FROM pg_class WHERE oid = 'client'::regclass") == 1500
    again = in_pieces(file.format(tag="new"))
    read, _ = await db.commit_counting(csv_transfer.import_clients, again, by="tests")
    assert 1500 <= read < 100 * 1500, "a nested loop reads 1500 * 1500"


async def test_planned_messages_of_changed_clients_are_read_a_few_times_whatever_the_statistics_said(
    db: Database,
) -> None:
    """Half of the clients move, the others opt out. A nested loop locks each message for each other."""
    phones = [f"7916{n:07d}" for n in range(1000)]
    await imported(db, "phone,timezone\n" + "".join(f"{phone},UTC\n" for phone in phones))
    await db.run("UPDATE pg_class SET relpages = 1000, reltuples = 0 WHERE oid = 'message'::regclass")
    await plan_mailing(db.sessions, await db.add_mailing(is_planned=False))
    file = "phone,timezone,opted_out\n" + "".join(f"{phone},Asia/Omsk,{n % 2}\n" for n, phone in enumerate(phones))
    async with transaction(db.sessions) as session:
        await csv_transfer.import_clients(session, in_pieces(file), by="tests")
        pages = await session.scalar(text("SELECT pg_stat_get_xact_blocks_fetched('message'::regclass)"))
    assert 1000 <= pages < 30 * 1000


async def test_a_file_is_judged_beside_the_event_loop(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a piece takes, requests go on: here it takes until the loop has had its turn."""
    had_a_turn = threading.Event()
    judged = CsvReader.feed

    def feed(reading: CsvReader, piece: bytes) -> list[ParsedRow]:
        assert had_a_turn.wait(10)
        return judged(reading, piece)

    monkeypatch.setattr(CsvReader, "feed", feed)
    importing = asyncio.create_task(imported(db, HEADER + "79161234567,,,UTC\n"))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.05, had_a_turn.set)
    assert (await importing).created == 1


async def test_a_file_that_takes_too_long_to_judge_is_refused_and_stores_nothing(
    api: Api, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_validation, "BASE_BUDGET_S", -1.0)
    answer = await api.post("/clients/import", content=HEADER + "79161234567,,,UTC\n")
    assert "takes too long to validate; split the file" in problem_of(answer)["errors"][0]["message"]
    assert await stored(db) == {}


async def test_a_file_without_a_good_row_stores_nothing(api: Api, db: Database) -> None:
    assert (await uploaded(api, HEADER))["created"] == 0
    assert (await uploaded(api, HEADER + "8,,,\n"))["rejected"] == 1
    assert await stored(db) == {}


NO_CSV = {
    "": "text/csv",
    "phone:timezone\n79161234567:UTC\n": "text/csv",
    "phone,timezone\n": "text/csv; charset=koi8-r",
    "PK\x03\x04": "text/csv",
    "--b\r\n\r\n": "multipart/form-data; boundary=b",
    '{"phone": "79161234567"}': "application/json",
}


async def test_what_is_no_csv_file_is_refused_as_a_whole(api: Api) -> None:
    for file, kind in NO_CSV.items():
        answer = await api.post("/clients/import", content=file, headers={"Content-Type": kind})
        assert set(bad_fields(answer)) <= {"header", "body"}


async def test_the_upload_has_a_limit_of_its_own(api: Api) -> None:
    over_the_others = HEADER + (" " * 60_000 + "\n") * 20
    assert (await uploaded(api, over_the_others))["rejected"] == 0
    too_large = {"Content-Length": "200000001"}
    assert problem_of(await api.post("/clients/import", content=b"", headers=too_large), 413)


NASTY_TAGS = [
    *("=1+1", "+7", "-x", "@a", "'=x", "''=x", "x;=cmd|'/C calc'!A1;y", "x;'=1", 'x; "=1"', "a,b;-1|@c", "'quoted'"),
    *("a,b", 'a"b', '"', "a\\tb", "\\N", "\\.", "ü é", "NULL"),
]


async def test_an_export_can_be_imported_again_and_no_cell_in_it_is_a_formula(api: Api, db: Database) -> None:
    for n, tag in enumerate([*NASTY_TAGS, None]):
        body = {"phone": f"7916000{n:04d}", "timezone": "Etc/GMT+3", "tag": tag, "operator_code": "999"}
        assert (await api.post("/clients", json=body)).status_code == 201
    before = await stored(db)
    answer = await api.get("/clients/export")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.text.startswith("\ufeffphone,operator_code,tag,timezone,opted_out\r\n")
    cells = answer.text.replace("\r\n", ",").replace('"', "").split(",")
    assert [cell for cell in cells if cell[:1] in {"=", "+", "-", "@"}] == []
    await db.run("DELETE FROM client")
    assert (await uploaded(api, answer.content))["created"] == len(before)
    assert await stored(db) == before


async def test_an_import_of_an_export_changes_nothing_and_keeps_opt_outs(api: Api) -> None:
    await api.post("/clients", json={"phone": "79161234567", "timezone": "UTC", "tag": "=x", "opted_out": True})
    before = (await api.get("/clients")).json()
    assert (await uploaded(api, (await api.get("/clients/export")).content))["updated"] == 1
    assert (await api.get("/clients")).json() == before


async def test_an_export_has_every_client_once_across_its_pages(db: Database) -> None:
    phones = [f"7916{n * 7919 % 10_000_019:07d}" for n in range(2 * csv_transfer.EXPORT_PAGE_SIZE)]
    await imported(db, HEADER + "".join(f"{phone},,,UTC\n" for phone in phones))
    lines = (await exported(db)).splitlines()
    assert sorted(lines[1:]) == [f"{phone},916,,UTC,no" for phone in sorted(phones)]


async def test_an_empty_export_is_a_header(db: Database) -> None:
    assert await exported(db) == "\ufeffphone,operator_code,tag,timezone,opted_out\r\n"


async def test_memory_does_not_grow_with_the_file(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_transfer, "MAX_IN_MEMORY", 10_000)  # both files below go to the disk
    monkeypatch.setattr(csv_transfer, "EXPORT_PAGE_SIZE", 1_000)

    async def lines(count: int) -> AsyncIterator[bytes]:
        yield HEADER.encode()
        for start in range(0, count, 2000):
            yield "".join(f"7916{n:07d},,vip,{'UTC' if n % 3 else 'x'}\n" for n in range(start, start + 2000)).encode()

    async def peak(count: int) -> int:
        tracemalloc.reset_peak()
        result = await db.commit(csv_transfer.import_clients, lines(count), by="tests")
        assert result.created + result.updated + result.rejected == count
        async for _ in csv_transfer.export_clients(db.sessions):
            pass
        return tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        await peak(2_000)  # whatever is made once
        small, large = await peak(4_000), await peak(20_000)
    finally:
        tracemalloc.stop()
    assert large < small + 1_000_000  # 16,000 rows kept would be over 2 MB

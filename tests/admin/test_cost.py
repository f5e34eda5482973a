"""What a page costs, as far as it is the same on every machine: bytes, statements, and what both grow with."""

import pytest
from litestar import Litestar

from mailing.web.single_flight import SingleFlight
from support.admin import Browser
from support.database import Database
from support.query_plans import executed

MOST_BYTES = 50_000
ON_A_PAGE = 50
TEXT = "Уважаемый клиент, с завтрашнего дня все товары дешевле на двадцать процентов. " * 3
LISTS = ["/admin/clients", "/admin/mailings", "/admin/mailings/1/messages", "/admin/clients/1", "/admin/statistics"]


async def add_rows(db: Database, count: int, *, first: int = 1) -> None:
    """Clients, mailings and messages, with texts as long as people write them; a client of many mailings as well."""
    add = """INSERT INTO client (phone, operator_code, tag, timezone)
        SELECT '79' || lpad(n::text, 9, '0'), '900', 'постоянный покупатель ' || n % 50,
            'America/Argentina/Buenos_Aires'
        FROM generate_series(CAST(:first AS int), :first + :count - 1) n"""
    await db.run(add, first=first, count=count)
    add = """INSERT INTO mailing (text, starts_at, ends_at, status, planned_revision, started_at, released_revision,
            released_at, released_by)
        SELECT :text, now() - interval '1 h', now() + interval '1 d', 'running', 1, now(), 1, now(), 'tests'
        FROM generate_series(1, :count)"""
    await db.run(add, count=count, text=TEXT)
    add = """INSERT INTO message (mailing_id, client_id, status, counted_attempts, claim_no, due_at, closes_at, phone,
                                text_revision, finished_at, reason_code, reason_params)
        SELECT m.id, c.id, 'failed', 1, 1, now(), now() + interval '1 h', '79000000001', 1, now(), 'http_status',
            '{"http_status" : 400}'
        FROM client c JOIN mailing m ON m.id = 1 OR c.id = 1 ON CONFLICT DO NOTHING"""
    await db.run(add)


async def statements(browser: Browser, path: str) -> list[str]:
    with executed() as ran:
        assert (await browser.get(path)).status_code == 200
    # without the check for a restored database, every few seconds
    return [statement for statement, _ in ran if "database_identity" not in statement]


@pytest.mark.parametrize("language", ["en", "ru"])
async def test_a_page_of_fifty_rows_is_small(db: Database, admin: Browser, language: str) -> None:
    await add_rows(db, ON_A_PAGE + 1)
    admin.cookies.set("mailing_language", language)
    for path in LISTS:
        answer = await admin.get(path)
        assert answer.text.count("<tr>") > ON_A_PAGE or path == "/admin/statistics", "a full page"
        assert len(answer.content) <= MOST_BYTES, path


@pytest.mark.parametrize("path", [*LISTS, "/admin/", "/admin/mailings/1", "/admin/mailings/new", "/admin/reports"])
async def test_more_rows_need_no_more_statements(app: Litestar, db: Database, admin: Browser, path: str) -> None:
    await add_rows(db, 2)
    few = await statements(admin, path)
    app.state.single_flight = SingleFlight()  # what was read for the first request would spare the second one
    await add_rows(db, ON_A_PAGE, first=3)
    assert await statements(admin, path) == few
    assert 2 <= len(few) <= 12

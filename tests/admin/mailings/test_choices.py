"""The tags and operator codes that a filter offers: from one value to the next, whatever the number of clients."""

from functools import partial

import pytest

from mailing.admin.mailings.repository import MAX_OTHERS, choices
from support.admin import Browser
from support.answers import words
from support.database import Database
from support.query_plans import rows_read, scans

MOST_BYTES = 25_000


async def add_tagged(db: Database, *, tags: int, clients_each: int = 1) -> None:
    """The tag with the highest number has one client more than the others."""
    add = """INSERT INTO client (phone, operator_code, tag, timezone)
        SELECT '79' || lpad((n * :each + m)::text, 9, '0'), lpad((900 + n % 99)::text, 3, '0'),
            'постоянный покупатель ' || lpad(n::text, 4, '0'), 'Europe/Moscow'
        FROM generate_series(1, CAST(:tags AS int)) n, generate_series(0, CAST(:each AS int) - 1 + (n = :tags)::int) m
        ON CONFLICT DO NOTHING"""
    await db.run(add, tags=tags, each=clients_each)
    await db.run("ANALYZE client")


async def test_a_filter_with_many_values_offers_the_first_and_a_search(db: Database, editor: Browser) -> None:
    await add_tagged(db, tags=500)
    editor.cookies.set("mailing_language", "ru")
    answer = await editor.get("/admin/mailings/new")
    assert answer.text.count('name="tags"') == MAX_OTHERS
    assert 'name="find_tags"' in answer.text
    assert len(answer.content) <= MOST_BYTES


async def test_a_filter_with_few_values_offers_them_all(db: Database, editor: Browser) -> None:
    await add_tagged(db, tags=3)
    answer = await editor.get("/admin/mailings/new")
    assert answer.text.count('name="tags"') == 3
    assert "find_tags" not in answer.text


@pytest.mark.parametrize("htmx", [True, False])
async def test_a_search_finds_a_part_in_any_case_and_keeps_what_was_chosen_and_typed(
    db: Database, editor: Browser, *, htmx: bool
) -> None:
    """With htmx it answers with the choices alone, without JavaScript with the whole form."""
    await add_tagged(db, tags=100)
    typed = {"text": "Hello there", "find_tags": "ПОКУПАТЕЛЬ 004", "tags": ["gone", "постоянный покупатель 0007"]}
    answer = await editor.post(
        "/admin/mailings/choices?of=tags", data=typed, headers={"HX-Request": "true"} if htmx else {}
    )
    assert answer.status_code == 200
    assert answer.text.count('name="tags"') == 2 + 10
    assert answer.text.count(" checked") == 2
    assert "постоянный покупатель 0042" in answer.text
    assert ("Hello there" in answer.text, "<h1>" in answer.text) == (not htmx, not htmx)


async def test_a_search_without_a_match_says_so(db: Database, editor: Browser) -> None:
    await add_tagged(db, tags=100)
    answer = await editor.post("/admin/mailings/choices?of=operator_codes", data={"find_operator_codes": "no such"})
    assert "Nothing was found." in words(answer)


async def test_no_client_is_read_for_a_value_but_one(db: Database) -> None:
    await add_tagged(db, tags=20, clients_each=100)
    found = await scans(db.engine, partial(choices, name="tags", words="", chosen=[]))
    of_clients = [node for node in found if node.get("Relation Name") == "client"]
    assert {node["Node Type"] for node in of_clients} == {"Index Only Scan"}
    assert sum(rows_read(node) for node in of_clients) <= 21
    listed = await db.commit(choices, "tags", words="", chosen=[])
    assert (listed.others[0].value, len(listed.others)) == ("постоянный покупатель 0020", 20), "the most frequent first"


async def test_the_time_zones_are_loaded_apart(editor: Browser) -> None:
    answer = await editor.get("/admin/mailings/zones")
    assert '<option value="Europe/Moscow">' in answer.text

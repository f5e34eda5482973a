"""The search of clients, page by page, and its cost: one index scan at any depth, in both directions."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.clients.search import (
    FIRST,
    Search,
    SearchCursor,
    known_values,
    search_clients,
    search_statement,
)
from support.database import Database
from support.query_plans import Plan, blocks, explained_prepared, nodes

COUNT = 20_000
FILL = f"""
    INSERT INTO client (phone, operator_code, tag, timezone, opted_out)
    SELECT '79' || lpad((n * 7919 % 1000000007)::text, 9, '0'), CASE WHEN n % 2 = 0 THEN '916' ELSE '917' END,
           CASE WHEN n <= 5000 THEN 'early' WHEN n > 15000 THEN 'late' WHEN n % 3 = 0 THEN 'vip' END,
           CASE WHEN n % 4 = 0 THEN 'Asia/Omsk' ELSE 'Europe/Moscow' END, n % 20 = 0
    FROM generate_series(1, {COUNT}) AS n
"""
WALKS = [
    (Search(), "client_pkey", COUNT // 2),
    (Search(begins="790"), "client_phone_unique", 79_080_000_000),
    (Search(ends="7"), "client_by_phone_end", 74_000_000_000),
    (Search(tag="vip"), "client_by_tag", COUNT // 2),
    (Search(operator_code="916"), "client_by_operator_code", COUNT // 2),
    (Search(timezone="Asia/Omsk"), "client_by_timezone", COUNT // 2),
    (Search(opted_out=True), "client_opted_out", COUNT // 2),
]


@pytest.fixture(scope="module")
async def filled(module_db: Database) -> Database:
    await module_db.run("TRUNCATE client CASCADE")  # the indexes keep pages of what other tests have deleted
    await module_db.run(FILL)
    await module_db.run("ANALYZE client")
    return module_db


@pytest.fixture
async def session(filled: Database) -> AsyncIterator[AsyncSession]:
    async with filled.sessions() as session:
        yield session


async def plan(session: AsyncSession, search: Search, place: SearchCursor) -> Plan:
    """Explain the generic plan: prepared once, for any values."""
    await session.execute(text("SET LOCAL plan_cache_mode = force_generic_plan"))
    return await explained_prepared(session, *search_statement(search, place=place, limit=50))


async def test_each_filter_walks_its_index_in_both_directions_and_throws_nothing_away(session: AsyncSession) -> None:
    for search, index, middle in WALKS:
        for place in (FIRST, SearchCursor(middle), SearchCursor(middle, backwards=True)):
            top = await plan(session, search, place)
            assert_only_one_index_is_walked(top, index)
            assert top["Actual Rows"] == 51, search
            assert blocks(top) < 120


def assert_only_one_index_is_walked(top: Plan, index: str) -> None:
    assert [node["Index Name"] for node in nodes(top) if "Index Name" in node] == [index]
    assert {node["Node Type"] for node in nodes(top)} == {"Limit", "Index Scan"}
    assert sum(node.get("Rows Removed by Filter", 0) for node in nodes(top)) == 0


async def test_a_tag_that_lies_elsewhere_in_the_table_is_not_searched_for_row_by_row(session: AsyncSession) -> None:
    for tag, after in (("early", COUNT // 2), ("late", 0), ("nobody", 0)):
        top = await plan(session, Search(tag=tag), SearchCursor(after))
        assert_only_one_index_is_walked(top, "client_by_tag")
        assert blocks(top) < 60


async def test_a_phone_is_found_by_its_own_index(session: AsyncSession) -> None:
    phone = await session.scalar(text("SELECT phone FROM client WHERE operator_code = '916' AND id > 10000 LIMIT 1"))
    top = await plan(session, Search(phone=phone, operator_code="916"), FIRST)
    [scan] = [node for node in nodes(top) if "Index Name" in node]
    assert (scan["Index Name"], scan["Actual Rows"]) == ("client_phone_unique", 1)
    assert blocks(top) < 10


async def all_pages(session: AsyncSession, search: Search) -> list[list[int]]:
    pages, place = [], FIRST
    while True:
        found = await search_clients(session, search, place=place, limit=7)
        pages.append([client.id for client in found.clients])
        if found.after is None:
            return pages
        place = found.after


@pytest.mark.parametrize(
    "search",
    [
        Search(begins="79000", tag="early"),
        Search(ends="123"),
        Search(begins="790", ends="78", operator_code="916"),
        Search(tag="vip", timezone="Asia/Omsk", opted_out=True),
        Search(operator_code="917", tag="early", opted_out=False, begins="7900", ends="1"),
    ],
)
async def test_the_pages_have_each_match_once_and_lead_back(session: AsyncSession, search: Search) -> None:
    matches = text("""
        SELECT id FROM client WHERE phone LIKE :begins || '%' AND phone LIKE '%' || :ends
            AND (:tag = '' OR tag = :tag) AND (:code = '' OR operator_code = :code)
            AND (:zone = '' OR timezone = :zone) AND opted_out = coalesce(CAST(:opted_out AS bool), opted_out)""")
    given = {"begins": search.begins, "ends": search.ends, "tag": search.tag, "code": search.operator_code}
    given |= {"zone": search.timezone}
    expected = set(await session.scalars(matches, given | {"opted_out": search.opted_out}))
    pages = await all_pages(session, search)
    found = [client_id for page in pages for client_id in page]
    assert len(found) == len(set(found)) > 7
    assert set(found) == expected
    second = await search_clients(session, search, place=await after_first(session, search), limit=7)
    assert second.before is not None
    back = await search_clients(session, search, place=second.before, limit=7)
    assert [client.id for client in back.clients] == pages[0]
    assert (back.before, back.after) == (None, await after_first(session, search))


async def after_first(session: AsyncSession, search: Search) -> SearchCursor:
    found = await search_clients(session, search, place=FIRST, limit=7)
    assert found.before is None
    assert found.after is not None
    return found.after


async def test_what_nobody_has_is_an_empty_page(session: AsyncSession) -> None:
    for search in (Search(begins="75"), Search(ends="0000000"), Search(tag="nobody"), Search(timezone="UTC")):
        found = await search_clients(session, search, place=FIRST, limit=7)
        assert (found.clients, found.before, found.after) == ([], None, None)


async def test_tags_and_time_zones_are_named_by_jumps_along_their_index(session: AsyncSession) -> None:
    assert await known_values(session, "tag", count=10) == ["early", "late", "vip"]
    assert await known_values(session, "tag", count=1) == ["early"]
    assert await known_values(session, "timezone", count=10) == ["Asia/Omsk", "Europe/Moscow"]

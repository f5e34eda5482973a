"""The cost of a page of clients, read from the plans: one index scan at any depth."""

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.clients.search import Search, SearchCursor, search_statement
from mailing.database.engine import Sessions, transaction
from support.query_plans import blocks, explained_prepared, nodes

COUNT = 20_000
FILL = text(f"""
    INSERT INTO client (phone, operator_code, tag, timezone)
    SELECT '7916' || lpad(n::text, 7, '0'), CASE WHEN n % 2 = 0 THEN '916' ELSE '917' END,
           CASE WHEN n <= 5000 THEN 'early' WHEN n > 15000 THEN 'late' WHEN n % 3 = 0 THEN 'vip' END, 'Europe/Moscow'
    FROM generate_series(1, {COUNT}) AS n
""")


async def plan(session: AsyncSession, search: Search, after: int) -> dict[str, Any]:
    """Explain the generic plan: prepared once, for any values."""
    await session.execute(text("SET LOCAL plan_cache_mode = force_generic_plan"))
    return await explained_prepared(session, *search_statement(search, place=SearchCursor(after), limit=50))


@pytest.fixture
async def session(sessions: Sessions) -> Any:  # noqa: ANN401 - a fixture
    async with transaction(sessions) as session:
        await session.execute(FILL)
    async with sessions() as session:
        await session.execute(text("ANALYZE client"))
        yield session


def assert_only_an_index_is_walked(top: dict[str, Any]) -> None:
    assert {node["Node Type"] for node in nodes(top)} == {"Limit", "Index Scan"}
    assert sum(node.get("Rows Removed by Filter", 0) for node in nodes(top)) == 0


async def test_a_page_costs_the_same_however_deep(session: AsyncSession) -> None:
    for search in (Search(), Search(tag="vip"), Search(operator_code="916")):
        first, middle, deep = [await plan(session, search, after) for after in (0, COUNT // 2, COUNT * 7 // 10)]
        for top in (first, middle, deep):
            assert_only_an_index_is_walked(top)
            assert top["Actual Rows"] == 51
            assert blocks(top) <= 2 * blocks(first)


async def test_a_tag_that_lies_elsewhere_in_the_table_is_not_searched_for_row_by_row(session: AsyncSession) -> None:
    for tag, after in (("early", COUNT // 2), ("late", 0), ("nobody", 0)):
        top = await plan(session, Search(tag=tag), after)
        assert_only_an_index_is_walked(top)
        assert blocks(top) < 60


async def test_a_phone_is_found_by_its_own_index(session: AsyncSession) -> None:
    top = await plan(session, Search(phone="79160010000", operator_code="916"), 0)
    [scan] = [node for node in nodes(top) if "Index Name" in node]
    assert (scan["Index Name"], scan["Actual Rows"]) == ("client_phone_unique", 1)
    assert top["Shared Hit Blocks"] + top["Shared Read Blocks"] < 10

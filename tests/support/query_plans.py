"""How PostgreSQL carries out what a function asks of it: which indexes it uses, how many rows and pages it reads."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

Plan = dict[str, Any]
Call = Callable[[AsyncSession], Awaitable[object]]

# Of all tables; that of the system's catalogs takes forty times as long.
ANALYZE = """
    DO $$ BEGIN EXECUTE (
        SELECT 'ANALYZE ' || string_agg(relname, ', ') FROM pg_class
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace); END $$"""


@contextmanager
def executed(by: Engine | type[Engine] = Engine) -> Iterator[list[tuple[str, Any]]]:
    """Collect the statements that an engine, or any, executes meanwhile, as the driver gets them, with parameters."""
    ran: list[tuple[str, Any]] = []

    def note(_connection: Connection, _cursor: object, statement: str, parameters: object, *_rest: object) -> None:
        ran.append((statement, parameters))

    event.listen(by, "before_cursor_execute", note)
    try:
        yield ran
    finally:
        event.remove(by, "before_cursor_execute", note)


@asynccontextmanager
async def unprepared(engine: AsyncEngine) -> AsyncIterator[list[str]]:
    """Collect what the pool's next connection is asked beside `executed`: BEGIN, COMMIT and pings."""
    async with engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
    ran: list[str] = []
    with driver.query_logger(lambda done: ran.append(done.query)):
        yield ran
        await asyncio.sleep(0)  # it is called in the event loop's next turn


async def statements(engine: AsyncEngine, call: Call) -> list[tuple[str, Any]]:
    """Run `call` and roll it back; return its statements with their parameters."""
    async with AsyncSession(engine) as session:
        with executed(engine.sync_engine) as ran:
            await call(session)
        await session.rollback()
    return ran


async def plans(engine: AsyncEngine, call: Call) -> list[Plan]:
    """Explain each statement of `call` while it runs again, rolled back too."""
    found = []
    for statement, parameters in await statements(engine, call):
        async with engine.connect() as connection:
            result = await connection.exec_driver_sql(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters
            )
            found.append(parsed(result.scalar_one()))
            await connection.rollback()
    return found


async def scans(engine: AsyncEngine, call: Call, *, analyse: bool = True) -> list[Plan]:
    """Return the nodes that read a table or an index.

    Without `analyse` the planner knows what it knew before the rows came, as right after a mailing was planned.
    """
    if analyse:
        async with engine.begin() as connection:
            await connection.execute(text(ANALYZE))
    every = [node for plan in await plans(engine, call) for node in nodes(plan)]
    return [node for node in every if "Relation Name" in node or "Index Name" in node]


async def buffers(engine: AsyncEngine, call: Call) -> int:
    """Count the pages of tables and indexes that are read to find the rows.

    How many more an UPDATE touches depends on the room in the row's own page.
    """
    return sum(blocks(_source(plan)) for plan in await plans(engine, call))


def _source(plan: Plan) -> Plan:
    changes = plan["Node Type"] == "ModifyTable"
    return next(child for child in plan["Plans"] if child["Parent Relationship"] == "Outer") if changes else plan


async def explained_prepared(session: AsyncSession, statement: str, values: Sequence[object]) -> Plan:
    """Explain a statement with `$1`, `$2` …, as the driver prepares it."""
    await session.execute(text("PREPARE explained AS " + statement))
    given = ", ".join(map(_literal, values))
    found = await session.execute(text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE explained({given})"))
    await session.execute(text("DEALLOCATE explained"))
    return parsed(found.scalar_one())


def _literal(value: object) -> str:
    if isinstance(value, list):
        return f"ARRAY[{', '.join(map(_literal, value))}]"
    return f"'{value}'" if isinstance(value, str) else str(value)


def parsed(found: str | list[Any]) -> Plan:
    """Accept text and JSON: SQLAlchemy sets its connections up to decode JSON, a bare one does not."""
    plan: Plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return plan


def nodes(plan: Plan) -> list[Plan]:
    return [plan, *(below for child in plan.get("Plans", []) for below in nodes(child))]


def blocks(plan: Plan) -> int:
    read: int = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return read


def rows_read(node: Plan) -> int:
    """Count the rows that a node read, including those that it filtered out."""
    kept_and_left = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
    rows: int = round(kept_and_left * node["Actual Loops"])
    return rows

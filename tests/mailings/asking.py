"""What several tests of mailings ask the API and the database."""

from typing import Any

import httpx
from sqlalchemy.ext.asyncio import AsyncEngine

from rows import add_client, add_mailing, add_messages, run

Json = dict[str, Any]


async def told(answer: httpx.Response, status: int = 200) -> Json:
    assert answer.status_code == status, answer.text
    found: Json = answer.json()
    return found


async def statuses(engine: AsyncEngine, mailing_id: int) -> dict[str, int]:
    """By counting, and equal to the counters."""
    counted = await run(
        engine, "SELECT status, count(*) FROM message WHERE mailing_id = :id GROUP BY status", id=mailing_id
    )
    by_rows = dict(tuple(each) for each in counted)
    counters = (await run(engine, "SELECT * FROM mailing_counts WHERE mailing_id = :id", id=mailing_id))[0]._asdict()
    assert counters.pop("mailing_id") == mailing_id
    assert counters.pop("planned") == sum(by_rows.values())
    assert {status: count for status, count in counters.items() if count} == by_rows
    return by_rows


async def add_audience(engine: AsyncEngine, statuses: list[str], *, status: str = "running") -> tuple[int, list[int]]:
    """A mailing with a message of each status, for clients that exist; its id and theirs."""
    mailing_id = await add_mailing(engine, status=status)
    found = await run(engine, "SELECT coalesce(max(id), 0) AS last FROM client")
    clients = [await add_client(engine, phone=f"7916{found[0].last + n:07}") for n, _ in enumerate(statuses, 1)]
    return mailing_id, await add_messages(engine, mailing_id, statuses, first_client=min(clients, default=1))


async def events(engine: AsyncEngine, kind: str = "%") -> list[tuple[str, str, int | None, Json]]:
    """Kind, actor, mailing and detail, in order."""
    found = await run(
        engine, "SELECT kind, actor, mailing_id, detail FROM event WHERE kind LIKE :kind ORDER BY id", kind=kind
    )
    return [(each.kind, each.actor, each.mailing_id, each.detail) for each in found]


async def jobs_of(engine: AsyncEngine, mailing_id: int) -> set[str]:
    """What is to be done at once."""
    found = await run(
        engine,
        """SELECT DISTINCT task_name FROM procrastinate_jobs
        WHERE args->>'mailing_id' = CAST(:id AS text) AND scheduled_at IS NULL""",
        id=str(mailing_id),
    )
    return {each.task_name for each in found}

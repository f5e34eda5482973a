"""What several tests of mailings ask the API and the database."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from mailing.mailings.states import OPEN, MailingStatus
from support.answers import Json, json_of
from support.api import Api
from support.database import Database


async def items_of_pages(api: Api, path: str, **parameters: str | int) -> list[Json]:
    """Read page after page; each but the last is full."""
    items: list[Json] = []
    cursor: dict[str, str | int] = {}
    while True:
        found = json_of(await api.get(path, params=parameters | cursor))
        page = found.get("messages", found)
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        assert len(page["items"]) == parameters["limit"]
        cursor = {"cursor": page["next_cursor"]}


async def statuses(db: Database, mailing_id: int) -> dict[str, int]:
    """Count the rows, and require that the counters agree."""
    counted = await db.run("SELECT status, count(*) FROM message WHERE mailing_id = :id GROUP BY status", id=mailing_id)
    by_rows = dict(tuple(each) for each in counted)
    counters = (await db.run("SELECT * FROM mailing_counts WHERE mailing_id = :id", id=mailing_id))[0]._asdict()
    assert counters.pop("mailing_id") == mailing_id
    assert counters.pop("planned") == sum(by_rows.values())
    assert {status: count for status, count in counters.items() if count} == by_rows
    return by_rows


async def add_audience(db: Database, statuses: list[str], *, status: str = "running") -> tuple[int, list[int]]:
    """Add a mailing with a message of each status, for clients that exist; return its id and theirs."""
    mailing_id = await db.add_mailing(status=status)
    found = await db.run("SELECT coalesce(max(id), 0) AS last FROM client")
    clients = [await db.add_client(phone=f"7916{found[0].last + n:07}") for n, _ in enumerate(statuses, 1)]
    return mailing_id, await db.add_messages(mailing_id, statuses, first_client=min(clients, default=1))


async def events(db: Database, kind: str = "%") -> list[tuple[str, str, int | None, Json]]:
    """Kind, actor, mailing and detail, in order."""
    found = await db.run(
        "SELECT kind, actor, mailing_id, detail FROM event WHERE kind LIKE :kind ORDER BY id", kind=kind
    )
    return [(each.kind, each.actor, each.mailing_id, each.detail) for each in found]


async def jobs_of(db: Database, mailing_id: int) -> set[str]:
    """Return the tasks of the mailing's jobs that have no scheduled time."""
    found = await db.run(
        """SELECT DISTINCT task_name FROM procrastinate_jobs
        WHERE args->>'mailing_id' = CAST(:id AS text) AND scheduled_at IS NULL""",
        id=str(mailing_id),
    )
    return {each.task_name for each in found}


ALL = {
    "text": "Осенняя распродажа: 20 % 🍂\n\u202e\u05e9\u05dc\u05d5\u05dd\u202c",
    "filter": {"tags": ["vip", "Ё 'quoted' \"%s\"; --"], "operator_codes": ["916", "903"]},
    "local_window": {"start": "22:30", "end": "06:00"},
}
CLOSED = [status for status in MailingStatus if status not in OPEN]


def in_hours(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat().replace("+00:00", "Z")


def body(**changes: Any) -> Json:  # noqa: ANN401 - JSON
    return {"text": "Hello", "starts_at": in_hours(1), "ends_at": in_hours(24)} | changes


async def created(api: Api, **changes: Any) -> Json:  # noqa: ANN401 - JSON
    return json_of(await api.post("/mailings/", json=body(**changes)), 201)


async def read(api: Api, mailing_id: int) -> Json:
    return json_of(await api.get(f"/mailings/{mailing_id}/"))


async def row(db: Database, mailing_id: int) -> Json:
    return dict((await db.run("SELECT * FROM mailing WHERE id = :id", id=mailing_id))[0]._asdict())


async def jobs(db: Database, *, after: int = 0) -> list[tuple[str, int, datetime | None]]:
    rows = await db.run(
        """SELECT task_name, (args->>'mailing_id')::int, scheduled_at FROM procrastinate_jobs
        WHERE id > :after ORDER BY id""",
        after=after,
    )
    return [(each[0], each[1], each[2]) for each in rows]


async def newest_job(db: Database) -> int:
    return int(await db.value("SELECT coalesce(max(id), 0) FROM procrastinate_jobs"))


def whole(found: Json) -> Json:
    """Return the body of a PUT that leaves the mailing as it is."""
    return {name: found[name] for name in ("text", "starts_at", "ends_at", "filter", "local_window")}


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


UNSENT = ["pending"] * 3 + ["sending", "sent", "sent", "failed", "expired", "unknown"]


async def with_messages(db: Database, *, status: str = "running") -> int:
    """Add UNSENT, and one more pending message of which an attempt may have arrived."""
    mailing_id = await db.add_mailing(status=status)
    *_, last = await db.add_messages(mailing_id, [*UNSENT, "pending"])
    await db.run(
        "UPDATE message SET maybe_accepted = true, phone = '79160000000', wait_reason = 'retry' WHERE id = :id", id=last
    )
    return mailing_id


STOPPED = Counter(UNSENT) - Counter(pending=3) + Counter(cancelled=3, unknown=1)

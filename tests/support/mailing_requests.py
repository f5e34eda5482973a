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


def whole(found: Json) -> Json:
    """Return the body of a PUT that leaves the mailing as it is."""
    return {name: found[name] for name in ("text", "starts_at", "ends_at", "filter", "local_window")}


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


UNSENT = ["pending"] * 3 + ["sending", "sent", "sent", "failed", "expired", "unknown"]


async def with_messages(db: Database, *, status: str = "running") -> int:
    """Add UNSENT, and one more pending message of which an attempt may have arrived."""
    mailing_id, (*_, last) = await db.add_mailing_of([*UNSENT, "pending"], status=status)
    await db.run(
        "UPDATE message SET maybe_accepted = true, phone = '79160000000', wait_reason = 'retry' WHERE id = :id", id=last
    )
    return mailing_id


STOPPED = Counter(UNSENT) - Counter(pending=3) + Counter(cancelled=3, unknown=1)

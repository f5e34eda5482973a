"""What several tests of mailings ask the API and the database."""

import copy
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from mailing.mailings.states import OPEN, MailingStatus
from support.answers import Json, json_of
from support.api import Api
from support.database import Database


async def items_of_pages(api: Api, path: str, **parameters: str | int) -> list[Json]:
    """Read page after page; each but the last is full, and none but the only one empty."""
    items: list[Json] = []
    cursor: dict[str, str | int] = {}
    while True:
        found = json_of(await api.get(path, params=parameters | cursor))
        page = found.get("messages", found)
        assert page["items"] or not items
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
VALID: Json = {
    "text": "Autumn sale",
    "starts_at": "2030-01-01T09:00:00Z",
    "ends_at": "2030-01-02T09:00:00+03:00",
    "filter": {"tags": ["vip", "new"], "operator_codes": ["916", "903"]},
    "local_window": {"start": "09:00", "end": "21:00"},
}
_ANY_TYPE = [5, -1, 0, 1e300, True, [], {}, [[]], "", "\x00", 2**64]
_INSTANTS = [
    *("now", "2031-01-01", "2031-01-01T00:00:00", "2031-01-01T00:00", "2031-13-01T00:00:00Z", "2031-02-29T00:00:00Z"),
    *("2031-01-01T24:00:00Z", "2031-01-01T00:00:00+25:00", "1999-12-31T23:59:59Z", "0000-01-01T00:00:00Z"),
    *("0001-01-01T00:00:00+14:00", "2100-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00", "+12031-01-01T00:00:00Z"),
    *("2031-01-01T00:00:00Z\x00", "1893456000"),
]
_TIMES = ["24:00", "09:60", "9:00", "09:00:00", "09:00\n", "-1:00", "09.00", "\u0660\u0669:\u0660\u0660"]
_CODES = ["91", "9166", "91a", "9 6", "\u0669\u0661\u0666", "916\n", " 916"]
# Of each field what is refused whatever the other fields are.
BAD: dict[str, list[object]] = {
    "text": [*_ANY_TYPE, None, " ", " \n\t\u00a0\u2003", "x" * 1601, "a\x00b"],
    "starts_at": [*_ANY_TYPE, None, *_INSTANTS],
    "ends_at": [*_ANY_TYPE, None, *_INSTANTS],
    "filter": [*(value for value in _ANY_TYPE if value != {}), None, "x", ["vip"]],
    "filter.tags": [*({} if value == [] else value for value in _ANY_TYPE if value != [[]]), None, ["x"] * 101],
    "filter.tags.0": [*_ANY_TYPE, None, "x" * 101],
    "filter.tags.1": [*_ANY_TYPE, None, "a\x00"],
    "filter.operator_codes": [None, "916", 916, {}, ["916"] * 101],
    "filter.operator_codes.0": [*_ANY_TYPE, None, *_CODES],
    "filter.operator_codes.1": [*_ANY_TYPE, None, *_CODES],
    "filter.tag": [["vip"]],
    "local_window": [*(value for value in _ANY_TYPE if value != {}), "09:00-21:00", ["09:00", "21:00"]],
    "local_window.start": [*_ANY_TYPE, None, *_TIMES],
    "local_window.end": [*_ANY_TYPE, None, *_TIMES],
    "local_window.zone": ["UTC"],
    **{name: [1] for name in ("id", "status", "created_at", "Text", "", "x" * 100, "текст")},
}
CLOSED = [status for status in MailingStatus if status not in OPEN]


def in_hours(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat().replace("+00:00", "Z")


def open_for(hours: float, *, now: datetime | None = None) -> dict[str, str]:
    """Return local hours that in UTC are open since an hour ago and for so many hours more."""
    now = now or datetime.now(UTC)
    return {"start": f"{now - timedelta(hours=1):%H:%M}", "end": f"{now + timedelta(hours=hours):%H:%M}"}


def body(**changes: Any) -> Json:  # noqa: ANN401 - JSON
    return {"text": "Hello", "starts_at": in_hours(1), "ends_at": in_hours(24)} | changes


def damaged(damage: Mapping[str, object]) -> Json:
    """Return VALID with these values at these places."""
    whole = copy.deepcopy(VALID)
    for path, value in damage.items():
        *way, last = (int(step) if step.isdecimal() else step for step in path.split("."))
        part: Any = whole
        for step in way:
            part = part[step]
        part[last] = value
    return whole


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

"""Counters compared with counting, for all statements that move messages, also concurrent ones."""

import asyncio
import random
import re
from collections import Counter, defaultdict
from itertools import chain

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from mailing.mailings.states import MailingStatus
from mailing.messages.states import TRANSITIONS, MessageStatus
from mailing.web.pagination import encode_cursor
from support.answers import Json, json_of
from support.api import Api
from support.database import ADD_MESSAGES, LOCK_WAITS, Database
from support.mailing_requests import items_of_pages
from support.query_plans import blocks, executed, explained_prepared, nodes, rows_read

ZERO = dict.fromkeys(("planned", *MessageStatus), 0)


async def get(api: Api, path: str, **parameters: object) -> Json:
    return json_of(await api.get(path, params={name: str(given) for name, given in parameters.items()}))


async def counted(db: Database) -> dict[int, Counter[str]]:
    """Every mailing's messages by status, by counting them."""
    found = defaultdict[int, Counter[str]](Counter)
    for row in await db.run("SELECT mailing_id, status, count(*) FROM message GROUP BY mailing_id, status"):
        found[row.mailing_id][row.status] = row[2]
    return found


def counts(by_status: Counter[str]) -> dict[str, int]:
    return ZERO | by_status | {"planned": by_status.total()}


# --- shapes ---------------------------------------------------------------------------------------------------------


async def test_without_mailings_everything_is_zero(api: Api) -> None:
    assert await get(api, "/statistics/") == {"mailings": 0, "messages": ZERO, "items": [], "next_cursor": None}


async def test_the_statistics_are_totals_and_a_line_for_each_mailing(db: Database, api: Api) -> None:
    first, second = await db.add_mailing(), await db.add_mailing(status="scheduled")
    await db.add_messages(first, ["sent", "sent", "pending"])
    expected = ZERO | {"planned": 3, "sent": 2, "pending": 1}
    assert await get(api, "/statistics/") == {
        "mailings": 2,
        "messages": expected,
        "items": [
            {"mailing_id": first, "status": "running", "launched": True, "delivery": None} | expected,
            {"mailing_id": second, "status": "scheduled", "launched": False, "delivery": None} | ZERO,
        ],
        "next_cursor": None,
    }


async def test_one_mailings_statistics_are_its_counts_and_its_messages(db: Database, api: Api) -> None:
    client_id, mailing_id = await db.add_client(phone="79161112233"), await db.add_mailing()
    pending, sent = await db.add_messages(mailing_id, ["pending", "sent"], first_client=client_id)
    found = await get(api, f"/statistics/{mailing_id}/")
    items = found["messages"].pop("items")
    assert found == {
        "mailing_id": mailing_id,
        "status": "running",
        "launched": True,
        "delivery": None,
        "counts": ZERO | {"planned": 2, "pending": 1, "sent": 1},
        "messages": {"next_cursor": None},
    }
    stories = [await get(api, f"/messages/{message_id}/") for message_id in (pending, sent)]
    more = {"text", "test", "history", "resolutions"}
    assert items == [{name: story[name] for name in story if name not in more} for story in stories]
    assert [item["phone"] for item in items] == ["79161112233", "79160000000"]


async def test_launched_tells_whether_the_start_ever_came(db: Database, api: Api) -> None:
    ids = {status: await db.add_mailing(status=status) for status in MailingStatus}
    unlaunched = await db.add_mailing(status="scheduled")
    assert (await api.post(f"/mailings/{unlaunched}/cancel")).status_code == 200
    launched = {item["mailing_id"]: item["launched"] for item in (await get(api, "/statistics/"))["items"]}
    assert launched == {ids[status]: status not in {"draft", "scheduled"} for status in MailingStatus} | {
        unlaunched: False
    }
    assert (await get(api, f"/statistics/{unlaunched}/"))["launched"] is False


async def test_the_totals_keep_what_a_deleted_mailing_sent(db: Database, api: Api) -> None:
    (kept, _), (gone, _) = [await db.add_mailing_of(["sent", "failed", "pending"]) for _ in range(2)]
    assert (await api.delete(f"/mailings/{gone}/")).status_code == 204
    found = await get(api, "/statistics/")
    assert found["messages"] == ZERO | {"planned": 6, "sent": 2, "failed": 2, "pending": 1, "cancelled": 1}
    assert (found["mailings"], [item["mailing_id"] for item in found["items"]]) == (1, [kept])


# --- the counters are true ------------------------------------------------------------------------------------------

MOVE = """
    UPDATE message SET status = :new, counted_attempts = counted_attempts + 1, claim_no = claim_no + 1,
        phone = coalesce(phone, '79160000000'), maybe_accepted = (:new = 'unknown'),
        lease_until = CASE :new WHEN 'sending' THEN now() + interval '1 min' END,
        finished_at = CASE WHEN :new NOT IN ('pending', 'sending') THEN now() END
    WHERE status = :old AND id % :parts = :part"""
# As the plan does it: some rows come, others change.
PLAN = """
    INSERT INTO message AS m (mailing_id, client_id, due_at, closes_at)
    SELECT :mailing_id, n, now(), now() + interval '1 h' FROM generate_series(CAST(:low AS bigint), :high) AS n
    ON CONFLICT ON CONSTRAINT message_once DO UPDATE SET status = 'pending', finished_at = NULL, maybe_accepted = false
    WHERE m.status IN ('cancelled', 'expired') OR m.status = 'pending'"""
# Different rows to different statuses at once, and beside them rows that come.
MIXED = """
    WITH moved AS (
        UPDATE message SET status = CASE WHEN id % 2 = 0 THEN 'cancelled' ELSE 'expired' END, finished_at = now(),
            maybe_accepted = false
        WHERE status = 'pending' AND id % :parts = :part RETURNING mailing_id
    )
    INSERT INTO message (mailing_id, client_id, due_at, closes_at)
    SELECT :mailing_id, :client_id, now(), now() + interval '1 h'"""


class Walk:
    """Statements by chance, each possible one sooner or later."""

    def __init__(self, seed: int, mailings: list[int]) -> None:
        self._chance = random.Random(seed)  # noqa: S311 - a replayable walk
        self._mailings = mailings
        self._client = 1_000

    async def step(self, connection: AsyncConnection) -> None:
        step = self._chance.choice([self._add, self._plan, self._move, self._move, self._move, self._mix, self._remove])
        await step(connection)

    async def _add(self, connection: AsyncConnection) -> None:
        statuses = self._chance.choices(list(MessageStatus), k=self._chance.randint(0, 30))
        values = {"mailing_id": self._chance.choice(self._mailings), "statuses": statuses, "first_client": self._client}
        self._client += 30
        await connection.execute(text(ADD_MESSAGES), values)

    async def _plan(self, connection: AsyncConnection) -> None:
        low = self._chance.randint(1, 40)
        values = {"mailing_id": self._chance.choice(self._mailings), "low": low, "high": low + 20}
        await connection.execute(text(PLAN), values)

    async def _move(self, connection: AsyncConnection) -> None:
        old = self._chance.choice([status for status in MessageStatus if TRANSITIONS[status]])
        new = self._chance.choice(sorted({*TRANSITIONS[old], old} - {MessageStatus.unknown} or {old}))
        if self._chance.random() < 0.3 and MessageStatus.unknown in TRANSITIONS[old]:
            new = MessageStatus.unknown
        await connection.execute(text(MOVE), {"old": old, "new": new} | self._part())

    async def _mix(self, connection: AsyncConnection) -> None:
        values = {"mailing_id": self._chance.choice(self._mailings), "client_id": self._client}
        self._client += 1
        await connection.execute(text(MIXED), values | self._part())

    async def _remove(self, connection: AsyncConnection) -> None:
        await connection.execute(text("DELETE FROM message WHERE id % :parts = :part"), self._part() | {"parts": 11})

    def _part(self) -> dict[str, int]:
        parts = self._chance.randint(1, 5)
        return {"parts": parts, "part": self._chance.randrange(parts)}


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_the_counters_are_what_counting_finds_after_any_statements(db: Database, api: Api, seed: int) -> None:
    mailings = [await db.add_mailing() for _ in range(4)]
    walk, reached, lines = Walk(seed, mailings), set[str](), dict[int, dict[str, int]]()
    for number in range(60):
        async with db.engine.connect() as connection:
            await walk.step(connection)
            await (connection.rollback() if number % 7 == 6 else connection.commit())
        found, truth = await get(api, "/statistics/"), await counted(db)
        lines = {item["mailing_id"]: {name: item[name] for name in ZERO} for item in found["items"]}
        assert lines == {mailing_id: counts(truth[mailing_id]) for mailing_id in mailings}
        assert found["messages"] == counts(sum(truth.values(), Counter()))
        reached |= {status for by_status in truth.values() for status in by_status}
    assert reached == set(MessageStatus), "the walk has been everywhere"
    for mailing_id in mailings:
        assert (await get(api, f"/statistics/{mailing_id}/"))["counts"] == lines[mailing_id]


async def test_statements_over_several_mailings_at_once_wait_for_each_other_in_no_circle(db: Database) -> None:
    mailings = [await db.add_mailing() for _ in range(4)]
    for number, mailing_id in enumerate(mailings):
        await db.add_messages(mailing_id, ["pending"] * 100, first_client=number * 1_000)

    async def shuffle(lane: int) -> None:
        """Each lane has messages of its own in every mailing; the counters they have in common."""
        backwards = "id DESC" if lane % 2 else "id"
        for status in ("cancelled", "pending") * 4:
            change = f"""
                UPDATE message m SET status = :status, finished_at = CASE :status WHEN 'cancelled' THEN now() END
                FROM (SELECT id FROM message WHERE client_id % 5 = :lane ORDER BY {backwards} FOR UPDATE) AS mine
                WHERE m.id = mine.id"""
            await db.run(change, status=status, lane=lane)

    await asyncio.gather(*(shuffle(lane) for lane in range(5)))
    assert await counted(db) == {mailing_id: Counter(pending=100) for mailing_id in mailings}
    kept = await db.run("SELECT mailing_id, planned, pending, cancelled FROM mailing_counts ORDER BY mailing_id")
    assert kept == [(mailing_id, 100, 100, 0) for mailing_id in mailings]


# --- pages ----------------------------------------------------------------------------------------------------------


async def ids_of_pages(api: Api, path: str, **parameters: str | int) -> list[int]:
    return [item["id"] for item in await items_of_pages(api, path, **parameters)]


async def test_the_pages_of_a_mailings_messages_join_in_the_order_of_ids(db: Database, api: Api) -> None:
    mailing_id, other = await db.add_mailing(), await db.add_mailing()
    chance = random.Random(7)  # noqa: S311 - the same mixture every time
    of_status = defaultdict[MessageStatus, list[int]](list)
    for batch in range(4):
        statuses = chance.choices(list(MessageStatus), k=25)
        ids = await db.add_messages(mailing_id, statuses, first_client=batch * 100)
        await db.add_messages(other, statuses, first_client=batch * 100)
        for message_id, status in zip(ids, statuses, strict=True):
            of_status[status].append(message_id)
    path, every = f"/statistics/{mailing_id}/", sorted(chain.from_iterable(of_status.values()))
    for limit in (7, 50, 99, 100, 500):
        assert await ids_of_pages(api, path, limit=limit) == every
    for status, ids in of_status.items():
        assert await ids_of_pages(api, path, limit=3, status=status) == ids


async def test_messages_that_move_between_two_pages_are_neither_lost_nor_repeated(db: Database, api: Api) -> None:
    mailing_id, ids = await db.add_mailing_of(["pending"] * 40)
    seen: list[int] = []
    cursor: dict[str, object] = {}
    for new in ("sending", "sent", "cancelled", "sending", "failed"):
        page = (await get(api, f"/statistics/{mailing_id}/", limit=8, **cursor))["messages"]
        seen += [item["id"] for item in page["items"]]
        old = "pending" if new in {"sending", "cancelled"} else "sending"
        await db.run(MOVE, old=old, new=new, parts=2, part=0)
        cursor = {"cursor": page["next_cursor"]}
    assert seen == ids
    assert cursor == {"cursor": None}


async def test_the_lines_of_the_mailings_come_in_pages_too(db: Database, api: Api) -> None:
    ids = [await db.add_mailing() for _ in range(5)]
    first = await get(api, "/statistics/", limit=2)
    second = await get(api, "/statistics/", limit=2, cursor=first["next_cursor"])
    third = await get(api, "/statistics/", limit=2, cursor=second["next_cursor"])
    assert [item["mailing_id"] for page in (first, second, third) for item in page["items"]] == ids
    assert third["next_cursor"] is None
    assert {page["mailings"] for page in (first, second, third)} == {5}, "the totals do not turn with the page"


# --- cost -----------------------------------------------------------------------------------------------------------

MESSAGES = 20_000
FILL = """
    INSERT INTO message (mailing_id, client_id, status, counted_attempts, claim_no, due_at, closes_at, phone,
        finished_at)
    SELECT :mailing_id, n, CASE WHEN n % 100 = 0 THEN 'failed' WHEN n % 2 = 0 THEN 'sent' ELSE 'pending' END,
        1, 1, now(), now() + interval '1 h', '79160000000', CASE WHEN n % 2 = 0 THEN now() END
    FROM generate_series(1, :count) AS n"""


async def test_a_page_costs_the_same_however_deep_and_however_many_messages_there_are(db: Database, api: Api) -> None:
    ids = await filled(db)
    read, limit = [], 20
    for mailing_id, deep in ((ids[0], 0), (ids[0], MESSAGES - 50), (ids[1], MESSAGES), (ids[1], 2 * MESSAGES - 50)):
        with executed() as ran:
            await get(api, f"/statistics/{mailing_id}/", limit=limit, cursor=encode_cursor(deep))
        pages = [each for each in ran if re.search(r"\bmessage\b", each[0])]
        assert len(pages) == 1, "counts come from the counters"
        for mode in ("force_custom_plan", "force_generic_plan"):  # PostgreSQL may take either way
            async with AsyncSession(db.engine) as session:
                await session.execute(text(f"SET LOCAL plan_cache_mode = {mode}"))
                plan = nodes(await explained_prepared(session, *pages[0]))
            of_messages = [node for node in plan if node.get("Relation Name") == "message"]
            assert {(node["Node Type"], node["Index Name"]) for node in of_messages} == {
                ("Index Scan", "message_listed")
            }
            touched = [rows_read(node) for node in plan if node["Node Type"] == "Sort" or node in of_messages]
            assert max(touched) <= len(MessageStatus) * (limit + 1)
            read.append(sum(map(blocks, of_messages)))
    assert max(read) <= 100, read


async def filled(db: Database) -> list[int]:
    """Two mailings of MESSAGES each, one after the other; four of the seven statuses do not occur."""
    await db.run("TRUNCATE message CASCADE")  # the indexes keep pages of what other tests have deleted
    ids = [await db.add_mailing() for _ in range(2)]
    for mailing_id in ids:
        await db.run(FILL, mailing_id=mailing_id, count=MESSAGES)
    async with db.engine.connect() as connection:
        outside = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await outside.exec_driver_sql("VACUUM ANALYZE message")
    return ids


async def test_the_overall_statistics_read_no_message_at_all(db: Database, api: Api) -> None:
    await db.add_mailing_of(["sent", "pending"])
    with executed() as ran:
        await get(api, "/statistics/")
    assert ran
    assert [statement for statement, _ in ran if re.search(r"\bmessage\b", statement)] == []


async def while_reading(db: Database, api: Api, path: str, table: str) -> Json:
    """Read statistics. Before they come to this table, the only message is cancelled."""
    async with db.engine.begin() as other:
        await other.exec_driver_sql(f"LOCK TABLE {table}")
        reading = asyncio.create_task(get(api, path))
        await db.comes(LOCK_WAITS, 1)
        await other.exec_driver_sql("UPDATE message SET status = 'cancelled', finished_at = now()")
    return await reading


async def test_totals_and_lines_are_of_one_moment(db: Database, api: Api) -> None:
    await db.add_mailing_of(["pending"])
    found = await while_reading(db, api, "/statistics/", "receipt_counts")
    assert (found["messages"]["pending"], found["items"][0]["pending"]) == (1, 1)


async def test_the_counts_of_a_mailing_and_its_messages_are_of_one_moment(db: Database, api: Api) -> None:
    mailing_id, _ = await db.add_mailing_of(["pending"])
    found = await while_reading(db, api, f"/statistics/{mailing_id}/", "message")
    assert (found["counts"]["pending"], found["messages"]["items"][0]["status"]) == (1, "pending")


async def test_the_statistics_of_a_mailing_that_never_was_are_not_found(api: Api) -> None:
    assert (await api.get("/statistics/1/")).status_code == 404
    assert (await api.get("/statistics/1/?status=sent&limit=1")).status_code == 404

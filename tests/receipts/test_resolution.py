"""A receipt proves that the provider accepted the message: doubt ends, and silence proves nothing."""

from functools import partial

import pytest

from mailing.messages.leases import RetryPolicy
from mailing.messages.resolution import resolve_by_receipts
from mailing.sending.sweep import sweep
from support.database import Database
from support.query_plans import scans

POLICY = RetryPolicy(hold=True, base_s=1, max_s=1)
PENDING_IN_DOUBT = """
    UPDATE message SET maybe_accepted = true, phone = '79160000000', text_revision = 1, claim_no = 1,
        counted_attempts = 1, wait_reason = 'retry', due_at = now() + interval '1 min' WHERE status = 'pending'"""


async def resolve(db: Database, *, after: int = 0, count: int = 100) -> tuple[int, int | None]:
    return await db.commit(resolve_by_receipts, after=after, count=count)


@pytest.mark.parametrize("state", [1, 2, 3])
async def test_any_receipt_makes_a_message_in_doubt_sent(db: Database, state: int) -> None:
    _, ids = await db.add_mailing_of(["unknown", "pending", "unknown", "pending"])
    await db.run(PENDING_IN_DOUBT)
    for message_id in ids[:2]:
        await db.add_receipt(message_id, state)
    assert await resolve(db) == (2, None)
    assert await resolve(db) == (0, None)
    rows = await db.run("SELECT status, reason_code, wait_reason FROM message ORDER BY id")
    assert [row.status for row in rows] == ["sent", "sent", "unknown", "pending"]
    assert await db.run("SELECT sent, unknown, pending FROM mailing_counts") == [(2, 1, 1)]
    events = await db.run("SELECT kind, actor, message_id, detail FROM event ORDER BY id")
    assert events == [("message.resolved", "receipt", message_id, {"as": "sent"}) for message_id in ids[:2]]


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired", "sending", "sent", "pending"])
async def test_what_is_not_in_doubt_stays(db: Database, status: str) -> None:
    [message_id] = await db.add_messages(await db.add_mailing(), [status])
    await db.add_receipt(message_id, 3)
    assert await resolve(db) == (0, None)
    assert await db.value("SELECT status FROM message") == status


async def test_a_locked_message_is_left_to_the_next_scan(db: Database) -> None:
    ids = await db.add_messages(await db.add_mailing(), ["unknown"] * 2)
    for message_id in ids:
        await db.add_receipt(message_id, 3)
    async with db.engine.connect() as other, other.begin():
        await other.exec_driver_sql(f"SELECT FROM message WHERE id = {ids[0]} FOR UPDATE")
        assert await resolve(db) == (1, None)
    assert await resolve(db) == (1, None)


async def test_a_scan_goes_on_where_the_last_one_ended(db: Database) -> None:
    ids = await db.add_messages(await db.add_mailing(), ["unknown"] * 5)
    await db.add_receipt(ids[4], 3)
    assert await resolve(db, count=2) == (0, ids[1])
    assert await resolve(db, after=ids[1], count=2) == (0, ids[3])
    assert await resolve(db, after=ids[3], count=2) == (1, None)


async def test_the_sweep_resolves(db: Database) -> None:
    [message_id] = await db.add_messages(await db.add_mailing(), ["unknown"])
    await db.add_receipt(message_id, 1)
    await sweep(db.sessions, POLICY)
    assert await db.value("SELECT status FROM message") == "sent"


async def test_the_scan_reads_only_messages_in_doubt(db: Database) -> None:
    await db.add_mailing_of(["sent"] * 3000 + ["unknown"] * 3)
    found = await scans(db.engine, partial(resolve_by_receipts, after=0, count=10_000))
    assert "message_doubtful" in {node.get("Index Name") for node in found}
    assert ("Seq Scan", "message") not in {(node["Node Type"], node.get("Relation Name")) for node in found}

"""A receipt proves that the provider accepted the message: doubt ends, and silence proves nothing."""

from functools import partial

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from mailing.database.engine import Sessions, transaction
from mailing.messages.leases import RetryPolicy
from mailing.messages.resolution import resolve_by_receipts
from mailing.sending.sweep import sweep
from support.query_plans import scans
from support.rows import add_mailing, add_messages, run, value

POLICY = RetryPolicy(hold=True, base_s=1, max_s=1)
PENDING_IN_DOUBT = """
    UPDATE message SET maybe_accepted = true, phone = '79160000000', text_revision = 1, claim_no = 1,
        counted_attempts = 1, wait_reason = 'retry', due_at = now() + interval '1 min' WHERE status = 'pending'"""
RECEIPT = """
    INSERT INTO receipt (message_id, mailing_id, state, at)
    SELECT id, mailing_id, :state, now() FROM message WHERE id = :id"""


async def resolve(sessions: Sessions, *, after: int = 0, count: int = 100) -> tuple[int, int | None]:
    async with transaction(sessions) as session:
        return await resolve_by_receipts(session, after=after, count=count)


@pytest.mark.parametrize("state", [1, 2, 3])
async def test_any_receipt_makes_a_message_in_doubt_sent(engine: AsyncEngine, sessions: Sessions, state: int) -> None:
    mailing_id = await add_mailing(engine)
    ids = await add_messages(engine, mailing_id, ["unknown", "pending", "unknown", "pending"])
    await run(engine, PENDING_IN_DOUBT)
    for message_id in ids[:2]:
        await run(engine, RECEIPT, id=message_id, state=state)
    assert await resolve(sessions) == (2, None)
    assert await resolve(sessions) == (0, None)
    rows = await run(engine, "SELECT status, reason_code, wait_reason FROM message ORDER BY id")
    assert [row.status for row in rows] == ["sent", "sent", "unknown", "pending"]
    assert await run(engine, "SELECT sent, unknown, pending FROM mailing_counts") == [(2, 1, 1)]
    events = await run(engine, "SELECT kind, actor, message_id, detail FROM event ORDER BY id")
    assert events == [("message.resolved", "receipt", message_id, {"as": "sent"}) for message_id in ids[:2]]


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired", "sending", "sent", "pending"])
async def test_what_is_not_in_doubt_stays(engine: AsyncEngine, sessions: Sessions, status: str) -> None:
    [message_id] = await add_messages(engine, await add_mailing(engine), [status])
    await run(engine, RECEIPT, id=message_id, state=3)
    assert await resolve(sessions) == (0, None)
    assert await value(engine, "SELECT status FROM message") == status


async def test_a_locked_message_is_left_to_the_next_scan(engine: AsyncEngine, sessions: Sessions) -> None:
    ids = await add_messages(engine, await add_mailing(engine), ["unknown"] * 2)
    for message_id in ids:
        await run(engine, RECEIPT, id=message_id, state=3)
    async with engine.connect() as other, other.begin():
        await other.exec_driver_sql(f"SELECT FROM message WHERE id = {ids[0]} FOR UPDATE")
        assert await resolve(sessions) == (1, None)
    assert await resolve(sessions) == (1, None)


async def test_a_scan_goes_on_where_the_last_one_ended(engine: AsyncEngine, sessions: Sessions) -> None:
    ids = await add_messages(engine, await add_mailing(engine), ["unknown"] * 5)
    await run(engine, RECEIPT, id=ids[4], state=3)
    assert await resolve(sessions, count=2) == (0, ids[1])
    assert await resolve(sessions, after=ids[1], count=2) == (0, ids[3])
    assert await resolve(sessions, after=ids[3], count=2) == (1, None)


async def test_the_sweep_resolves(engine: AsyncEngine, sessions: Sessions) -> None:
    [message_id] = await add_messages(engine, await add_mailing(engine), ["unknown"])
    await run(engine, RECEIPT, id=message_id, state=1)
    await sweep(sessions, POLICY)
    assert await value(engine, "SELECT status FROM message") == "sent"


async def test_the_scan_reads_only_messages_in_doubt(engine: AsyncEngine) -> None:
    mailing_id = await add_mailing(engine)
    await add_messages(engine, mailing_id, ["sent"] * 3000 + ["unknown"] * 3)
    found = await scans(engine, partial(resolve_by_receipts, after=0, count=10_000))
    assert "message_doubtful" in {node.get("Index Name") for node in found}
    assert ("Seq Scan", "message") not in {(node["Node Type"], node.get("Relation Name")) for node in found}

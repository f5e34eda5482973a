"""Facts about the statements that hold on every machine: how many there are, and which index they use."""

import asyncio
from functools import partial

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.connections import skip_recent_pings
from mailing.database.engine import raw_connection, transaction
from mailing.gateway.outcome import Answer, Outcome
from mailing.messages.claim import ClaimedMessage, claim, explain_empty, still_allowed
from mailing.messages.results import Called, CallResult, record
from mailing.observability.counters import WorkerCounters
from mailing.sending.recording import PlanVersion, ResultRecorder
from mailing.sending.retry_policy import accepted
from support.campaign import Campaign
from support.database import Database
from support.index_entries import IndexEntries
from support.query_plans import ANALYZE, executed, nodes, parsed, scans, statements, unprepared

BATCH = 500
ADD_DUE_MESSAGES = """
    INSERT INTO message (mailing_id, client_id, due_at, closes_at)
    SELECT g, client.id, now() - client.id * interval '1 ms', now() + interval '1 h'
    FROM client, generate_series(1, 2) g"""


async def test_a_batch_costs_two_statements_and_one_begin_and_commit(campaign: Campaign, db: Database) -> None:
    """Four round trips for 500 messages, 0.008 each; nothing in between grows with their number."""
    await campaign.clients(2 * BATCH)
    await _insert_due_messages(campaign)
    skip_recent_pings(db.engine, within_s=60)
    recorder = ResultRecorder(db.sessions, WorkerCounters(), asyncio.Event(), on_recorded=lambda _: None)

    async def send_batch() -> None:
        claimed = await db.commit(claim, 1, BATCH)
        await recorder.record(PlanVersion(1, 1), [_accepted(message) for message in claimed])

    await send_batch()  # the driver asks for types once
    async with unprepared(db.engine) as ran_beside:
        with executed() as ran:
            await send_batch()
    assert (len(ran), [statement.split()[0].strip(";") for statement in ran_beside]) == (2, ["BEGIN", "COMMIT"])
    assert await campaign.counts(1) == {"planned": 2 * BATCH, "sent": 2 * BATCH}


async def test_the_claim_walks_its_index_and_filters_nothing_away(campaign: Campaign, db: Database) -> None:
    await campaign.clients(20_000)
    await _insert_due_messages(campaign)
    await campaign.db.run("UPDATE message SET due_at = now() + client_id * interval '1 s' WHERE id % 20 > 0")
    found = await scans(db.engine, partial(claim, mailing_id=1, count=500))
    of_rows = [node for node in found if node.get("Relation Name") in {"message", "client"}]
    assert {node.get("Index Name") for node in of_rows} - {None} == {"message_due", "message_pkey", "client_pkey"}
    assert "Seq Scan" not in {node["Node Type"] for node in of_rows}
    assert not any(node.get("Rows Removed by Filter") for node in of_rows)


async def test_recording_finds_each_message_by_its_key_whatever_the_statistics_say(campaign: Campaign) -> None:
    """As a worker runs it, by a plan kept for any values, where the statistics are of a moment without sending."""
    await campaign.clients(20_000)
    await _insert_due_messages(campaign)

    async def claim_and_record(session: AsyncSession) -> None:
        accepted = [_accepted(message) for message in await claim(session, 1, BATCH)]
        await record(session, accepted, mailing_id=1, revision=1)

    statement, values = (await statements(campaign.db.engine, claim_and_record))[-1]
    async with campaign.db.sessions() as session:
        await session.execute(text(ANALYZE))
        connection = await raw_connection(session)
        await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE recording AS {statement}")
        found = await connection.fetchval(
            f"EXPLAIN (FORMAT JSON) EXECUTE recording ({', '.join(['NULL'] * len(values))})"
        )
        await connection.execute("DEALLOCATE recording")
    every = nodes(parsed(found))
    of_messages = [node for node in every if node.get("Relation Name") == "message" and "Scan" in node["Node Type"]]
    assert [node.get("Index Name") for node in of_messages] == ["message_pkey", "message_pkey"]
    for node in every:
        if node["Node Type"] == "Nested Loop":
            assert node["Plans"][1]["Node Type"] != "CTE Scan", "all results are read for each message"


async def test_a_message_writes_nine_index_entries_from_its_plan_to_its_end(campaign: Campaign, db: Database) -> None:
    await campaign.clients(BATCH)
    mailing_ids = [await db.add_mailing() for _ in range(2)]
    async with transaction(db.sessions) as session:
        entries = IndexEntries(session, "message", "attempt")
        await entries.written()
        await session.execute(text(ADD_DUE_MESSAGES))
        planned = await entries.written()
        claims = [await claim(session, each, BATCH) for each in mailing_ids]
        claimed = await entries.written()
        for each, messages in zip(mailing_ids, claims, strict=True):
            await record(session, [_accepted(message) for message in messages], mailing_id=each, revision=1)
        recorded = await entries.written()
    assert [written / (2 * BATCH) for written in (planned, claimed, recorded)] == [4, 0, 5]


async def test_no_statement_of_dispatch_reads_more_beside_finished_messages(campaign: Campaign, db: Database) -> None:
    """Triggers included: what PostgreSQL itself counted, for a batch alone and beside 400 times as many sent ones."""
    await campaign.clients(2 * BATCH)
    await _insert_due_messages(campaign)
    alone = await _rows_read_by_a_batch(db)
    await campaign.db.run("""
        INSERT INTO message (mailing_id, client_id, status, counted_attempts, claim_no, due_at, closes_at, phone,
            finished_at)
        SELECT 1, 1000000 + n, 'sent', 1, 1, now(), now() + interval '1 h', '79160000000', now()
        FROM generate_series(1, 400 * 500) n""")
    beside_many = await _rows_read_by_a_batch(db)
    assert alone >= BATCH
    assert beside_many <= 1.5 * alone


async def _rows_read_by_a_batch(db: Database) -> int:
    """Claimed, looked at again, recorded, and the next one's time asked for."""
    async with transaction(db.sessions) as session:
        await session.execute(text(ANALYZE))
    of_claim, claimed = await db.commit_counting(claim, 1, BATCH)
    of_look, (allowed, _) = await db.commit_counting(still_allowed, [message.id for message in claimed])
    accepted = [_accepted(message) for message in claimed]
    of_record, recorded = await db.commit_counting(record, accepted, mailing_id=1, revision=1)
    of_next, _ = await db.commit_counting(explain_empty, 1)
    assert (len(claimed), len(allowed), recorded.moved) == (BATCH, BATCH, BATCH)
    return of_claim + of_look + of_record + of_next


async def _insert_due_messages(campaign: Campaign) -> None:
    """Two running mailings; the first one's messages are due."""
    for _ in range(2):
        await campaign.db.add_mailing()
    await campaign.db.run(ADD_DUE_MESSAGES)


def _accepted(message: ClaimedMessage) -> CallResult:
    answer = Answer(Outcome.accepted, 200, 0)
    return CallResult(message, accepted(message), Called(answer, started_at=message.claimed_at, duration_ms=5))

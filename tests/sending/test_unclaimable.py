"""Messages that no claim may take, or can take: they don't keep the others waiting."""

from sqlalchemy.ext.asyncio import AsyncEngine

from mailing.database.engine import Sessions, transaction
from mailing.messages.claim import claim
from support.campaign import Campaign
from support.rows import add_client, add_mailing, run, value

ADD = """
    INSERT INTO message (mailing_id, client_id, maybe_accepted, phone, due_at, closes_at)
    VALUES (:mailing_id, :client_id, :ambiguous, CASE WHEN :ambiguous THEN '79160000000' END,
            now() - interval '1 min', now() + interval '1 h') RETURNING id"""
STATUSES = "SELECT status, reason_code FROM message ORDER BY id"


async def add(engine: AsyncEngine, mailing_id: int, client_id: int, *, ambiguous: bool = False) -> int:
    added: int = await value(engine, ADD, mailing_id=mailing_id, client_id=client_id, ambiguous=ambiguous)
    return added


async def test_a_claim_of_one_gets_past_messages_without_a_client_and_ends_them(
    engine: AsyncEngine, sessions: Sessions
) -> None:
    mailing_id, client_id = await add_mailing(engine), await add_client(engine)
    opted_out = await add_client(engine, phone="79161234568")
    await run(engine, "UPDATE client SET opted_out = true WHERE id = :id", id=opted_out)
    for gone in (998, 999):
        await add(engine, mailing_id, gone, ambiguous=gone == 999)
    await add(engine, mailing_id, opted_out)
    wanted = await add(engine, mailing_id, client_id)
    async with transaction(sessions) as session:
        assert [message.id for message in await claim(session, mailing_id, 1)] == [wanted]
    assert await run(engine, STATUSES) == [
        ("cancelled", "client_deleted"),
        ("unknown", "client_deleted"),
        ("cancelled", "client_opted_out"),
        ("sending", None),
    ]


async def test_a_claim_ends_nothing_in_a_restored_database(engine: AsyncEngine, sessions: Sessions) -> None:
    await add(engine, mailing_id := await add_mailing(engine), 999)
    await run(engine, "UPDATE installation SET database_identity = 'elsewhere'")
    async with transaction(sessions) as session:
        assert await claim(session, mailing_id, 10) == []
    assert await value(engine, "SELECT status FROM message") == "pending"


async def test_a_row_that_no_claim_can_take_is_set_aside_and_the_others_are_sent(
    engine: AsyncEngine, campaign: Campaign
) -> None:
    clients = await campaign.clients(600)
    await run(
        engine, f"ALTER TABLE message ADD CONSTRAINT poisoned CHECK (status <> 'sending' OR client_id <> {clients[3]})"
    )
    async with campaign.working():
        mailing_id = await campaign.mailing()
        await campaign.shows(mailing_id, planned=600, sent=599, pending=1)
    (row,) = await run(
        engine,
        "SELECT client_id, reason_code, reason_params, due_at > now() AS later FROM message WHERE status <> 'sent'",
    )
    assert tuple(row) == (clients[3], "not_claimable", {"error": "poisoned"}, True)
    assert [item["repeats"] for item in await campaign.sandbox.ledger()] == [0] * 599

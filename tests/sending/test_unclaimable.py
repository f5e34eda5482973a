"""Messages that no claim may take, or can take: they don't keep the others waiting."""

from mailing.messages.claim import claim, explain_empty
from support.campaign import Campaign
from support.database import Database

ADD = """
    INSERT INTO message (mailing_id, client_id, maybe_accepted, phone, due_at, closes_at)
    VALUES (:mailing_id, :client_id, :ambiguous, CASE WHEN :ambiguous THEN '79160000000' END,
            now() - interval '1 min', now() + interval '1 h') RETURNING id"""
STATUSES = "SELECT status, reason_code FROM message ORDER BY id"


async def add(db: Database, mailing_id: int, client_id: int, *, ambiguous: bool = False) -> int:
    return int(await db.value(ADD, mailing_id=mailing_id, client_id=client_id, ambiguous=ambiguous))


async def test_a_claim_of_one_gets_past_messages_without_a_client_and_ends_them(db: Database) -> None:
    mailing_id, client_id = await db.add_mailing(), await db.add_client()
    opted_out = await db.add_client(phone="79161234568")
    await db.run("UPDATE client SET opted_out = true WHERE id = :id", id=opted_out)
    for gone in (998, 999):
        await add(db, mailing_id, gone, ambiguous=gone == 999)
    await add(db, mailing_id, opted_out)
    wanted = await add(db, mailing_id, client_id)
    assert [message.id for message in await db.commit(claim, mailing_id, 1)] == [wanted]
    assert await db.run(STATUSES) == [
        ("cancelled", "client_deleted"),
        ("unknown", "client_deleted"),
        ("cancelled", "client_opted_out"),
        ("sending", None),
    ]


async def test_a_claim_ends_nothing_in_a_restored_database(db: Database) -> None:
    await add(db, mailing_id := await db.add_mailing(), 999)
    await db.run("UPDATE installation SET database_identity = 'elsewhere'")
    assert await db.commit(claim, mailing_id, 10) == []
    assert await db.value("SELECT status FROM message") == "pending"


async def test_what_is_due_already_or_has_ended_is_not_the_next_to_be_due(db: Database) -> None:
    """Otherwise a message that no claim takes would bring its job back at once, again and again."""
    mailing_id = await db.add_mailing()
    _, waiting, _ = await db.add_messages(mailing_id, ["pending", "pending", "cancelled"])
    await db.run("UPDATE message SET due_at = now() + interval '10 min' WHERE status = 'cancelled'")
    later = await db.value(
        "UPDATE message SET due_at = now() + interval '20 min' WHERE id = :id RETURNING due_at", id=waiting
    )
    assert (await db.commit(explain_empty, mailing_id)).next_due == later


async def test_a_row_that_no_claim_can_take_is_postponed_and_the_others_are_sent(campaign: Campaign) -> None:
    clients = await campaign.clients(600)
    await campaign.db.run(
        f"ALTER TABLE message ADD CONSTRAINT poisoned CHECK (status <> 'sending' OR client_id <> {clients[3]})"
    )
    async with campaign.working():
        mailing_id = await campaign.mailing()
        await campaign.shows(mailing_id, planned=600, sent=599, pending=1)
    (row,) = await campaign.db.run(
        """SELECT client_id, wait_reason, reason_code, reason_params, due_at > now() AS later
        FROM message WHERE status <> 'sent'"""
    )
    assert tuple(row) == (clients[3], "retry", "not_claimable", {"error": "poisoned"}, True)
    assert [item["repeats"] for item in await campaign.sandbox.ledger()] == [0] * 599

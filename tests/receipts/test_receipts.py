"""Receipts over HTTP into the database: which wins, what is counted, and what each request is answered."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from mailing.settings import Settings
from receipts.conftest import ReceiptServer
from support.database import Database
from support.logs import logged

ACCEPTED, UNDELIVERED, DELIVERED = 1, 2, 3
STORED = "SELECT message_id, state, code FROM receipt ORDER BY message_id"


async def counts(db: Database, mailing_id: int) -> tuple[int, int]:
    rows = await db.run("SELECT delivered, undelivered FROM receipt_counts WHERE mailing_id = :id", id=mailing_id)
    return (rows[0].delivered, rows[0].undelivered) if rows else (0, 0)


async def test_a_receipt_is_stored_before_it_is_answered(receiver: ReceiptServer, db: Database) -> None:
    mailing_id, (message_id,) = await db.add_mailing_of(["sent"])
    answer = await receiver.receipt(message_id, DELIVERED)
    assert (answer.status_code, answer.content) == (200, b"ACK")
    assert await db.run(STORED) == [(message_id, DELIVERED, None)]
    assert await counts(db, mailing_id) == (1, 0)
    assert await db.value("SELECT status FROM message") == "sent"


@pytest.mark.parametrize(
    ("states", "kept", "counted"),
    [
        ([DELIVERED, DELIVERED], DELIVERED, {"delivered": 1, "stale": 1}),
        ([DELIVERED, ACCEPTED], DELIVERED, {"delivered": 1, "stale": 1}),
        ([DELIVERED, UNDELIVERED], DELIVERED, {"delivered": 1, "stale": 1}),
        ([ACCEPTED, UNDELIVERED, DELIVERED], DELIVERED, {"accepted": 1, "undelivered": 1, "delivered": 1}),
        ([UNDELIVERED, ACCEPTED], UNDELIVERED, {"undelivered": 1, "stale": 1}),
    ],
)
async def test_the_strongest_receipt_wins_in_whatever_order_they_come(
    receiver: ReceiptServer, db: Database, states: Sequence[int], kept: int, counted: dict[str, int]
) -> None:
    mailing_id, (message_id,) = await db.add_mailing_of(["sent"])
    for state in states:
        assert (await receiver.receipt(message_id, state)).status_code == 200
    assert await db.run(STORED) == [(message_id, kept, None)]
    assert await counts(db, mailing_id) == (int(kept == DELIVERED), int(kept == UNDELIVERED))
    assert receiver.counted() == counted


async def test_a_hundred_receipts_in_one_request_are_counted_by_their_mailings(
    account_receiver: ReceiptServer, db: Database
) -> None:
    mailings = [await db.add_mailing() for _ in range(2)]
    ids = [await db.add_messages(mailing_id, ["sent"] * 50) for mailing_id in mailings]
    items = [
        {"id": message_id, "state": state}
        for of_mailing in ids
        for n, message_id in enumerate(of_mailing)
        for state in ((ACCEPTED, DELIVERED) if n % 2 else (UNDELIVERED,))
    ]
    assert (await account_receiver.receipts(items)).status_code == 200
    assert [await counts(db, mailing_id) for mailing_id in mailings] == [(25, 25), (25, 25)]
    assert account_receiver.counted() == {"delivered": 50, "undelivered": 50, "stale": 50}


async def test_many_requests_at_once_share_their_commits(receiver: ReceiptServer, db: Database) -> None:
    mailing_id, ids = await db.add_mailing_of(["sent"] * 100)
    answers = await asyncio.gather(*(receiver.receipt(message_id, DELIVERED) for message_id in ids for _ in range(2)))
    assert {answer.status_code for answer in answers} == {200}
    assert await counts(db, mailing_id) == (100, 0)
    assert receiver.counted() == {"delivered": 100, "stale": 100}
    commits = await db.value("SELECT count(DISTINCT received_at) FROM receipt")
    assert commits < 20


async def test_a_receipt_that_comes_before_our_own_record_is_kept(receiver: ReceiptServer, db: Database) -> None:
    [message_id] = await db.add_messages(await db.add_mailing(), ["sending"])
    assert (await receiver.receipt(message_id, DELIVERED)).status_code == 200
    await db.run("UPDATE message SET status = 'sent', lease_until = NULL, finished_at = now(), counted_attempts = 1")
    assert await db.value("SELECT state FROM receipt") == DELIVERED


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired"])
async def test_a_receipt_that_contradicts_us_is_stored_and_told(
    receiver: ReceiptServer, db: Database, status: str
) -> None:
    [message_id] = await db.add_messages(await db.add_mailing(), [status])
    for state in (ACCEPTED, DELIVERED):
        await receiver.receipt(message_id, state)
    assert await db.value("SELECT status FROM message") == status
    events = await db.run("SELECT kind, actor, message_id, detail FROM event")
    assert events == [("message.contradicted", "receipt", message_id, {"status": status, "state": "accepted"})]
    assert receiver.counted()["contradiction"] == 1


async def test_an_unknown_message_is_answered_as_any_other(receiver: ReceiptServer, db: Database) -> None:
    _, (redacted,) = await db.add_mailing_of(["sent"])
    await db.run("UPDATE mailing SET redacted_at = now()")
    for message_id in (redacted, 2**62):
        assert (await receiver.receipt(message_id, DELIVERED)).status_code == 200
    assert await db.run(STORED) == []
    assert receiver.counted() == {"unknown": 2}


@pytest.mark.parametrize(
    ("hours", "is_theirs"),
    [
        (0, True),
        (-3, False),  # before the acceptance: another time zone
        (3, False),
        (-24 * 365 * 2000, False),
        (24 * 365 * 7000, False),
    ],
)
async def test_the_providers_time_counts_if_it_is_plausible(
    receiver: ReceiptServer, db: Database, hours: int, is_theirs: bool
) -> None:
    [message_id] = await db.add_messages(await db.add_mailing(), ["sent"])
    given = datetime.now(UTC) + timedelta(hours=hours)
    assert (await receiver.receipt(message_id, DELIVERED, at=given.isoformat())).status_code == 200
    assert await db.value("SELECT at = :given FROM receipt", given=given) is is_theirs
    assert await db.value("SELECT at BETWEEN now() - interval '1 h' AND now() FROM receipt") is True


@pytest.mark.parametrize(
    ("given", "kept"),
    [("27", "27"), ("x" * 1000, "x" * 32), ("a\x00\nЖ b", "a b"), ("\n", None), ("", None), (" no route ", "no route")],
)
async def test_a_reason_is_kept_as_short_printable_ascii(
    receiver: ReceiptServer, db: Database, given: str, kept: str | None
) -> None:
    [message_id] = await db.add_messages(await db.add_mailing(), ["sent"])
    assert (await receiver.receipt(message_id, UNDELIVERED, code=given)).status_code == 200
    assert await db.value("SELECT code FROM receipt") == kept


async def test_a_status_without_a_meaning_proves_that_the_provider_has_the_message(
    receiver: ReceiptServer, db: Database, settings: Settings
) -> None:
    ids = await db.add_messages(await db.add_mailing(), ["sent"] * 3)
    with logged(settings) as lines:
        for message_id in ids:
            await receiver.receipt(message_id, ACCEPTED, code="TELEPORTED", listed=False)
        assert [line["code"] for line in lines("receipt with an unlisted status")] == ["TELEPORTED"]
    assert receiver.counted() == {"accepted": 3, "unlisted": 3}


async def test_receipts_and_senders_wait_for_nothing_of_each_other(receiver: ReceiptServer, db: Database) -> None:
    mailing_id, (message_id, other) = await db.add_mailing_of(["sent", "sending"])
    async with db.engine.connect() as sender, sender.begin():
        await _record(sender, other)
        assert (await asyncio.wait_for(receiver.receipt(message_id, DELIVERED), 5)).status_code == 200
        assert (await asyncio.wait_for(receiver.receipt(other, DELIVERED), 5)).status_code == 200
    assert await counts(db, mailing_id) == (2, 0)


async def _record(connection: AsyncConnection, message_id: int) -> None:
    statement = """
        UPDATE message SET status = 'sent', lease_until = NULL, finished_at = now(), counted_attempts = 1
        WHERE id = :id"""
    await connection.execute(text(statement), {"id": message_id})

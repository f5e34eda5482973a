import re
from itertools import product

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from mailing.messages.states import TRANSITIONS, MessageStatus
from support.database import Database

# To any status, with what the CHECK of the schema wants of it.
MOVE = """
    UPDATE message SET status = :status, counted_attempts = 1, claim_no = 1, phone = '79160000000',
        maybe_accepted = (:status = 'unknown'),
        lease_until = CASE :status WHEN 'sending' THEN now() + interval '1 min' END,
        finished_at = CASE WHEN :status NOT IN ('pending', 'sending') THEN now() END
    WHERE id = ANY(:ids)"""


async def moves(db: Database, ids: list[int], status: str) -> bool:
    """Whether the database lets the messages become this; they stay what they were."""
    async with db.engine.connect() as connection:
        try:
            await connection.execute(text(MOVE), {"ids": ids, "status": status})
        except IntegrityError as error:
            assert "no such transition" in str(error.orig)  # noqa: PT017 - refused, and by the right hand
            return False
        return True


async def test_the_database_allows_exactly_the_transitions_of_the_table(db: Database) -> None:
    ids = dict(zip(MessageStatus, await db.add_messages(await db.add_mailing(), list(MessageStatus)), strict=True))
    for old, new in product(MessageStatus, MessageStatus):
        allowed = new in TRANSITIONS[old] or new is old
        assert await moves(db, [ids[old]], new) == allowed, f"{old} -> {new}"


async def test_one_forbidden_transition_among_many_rows_stops_the_whole_statement(db: Database) -> None:
    _, ids = await db.add_mailing_of(["pending"] * 50 + ["sent"])
    assert not await moves(db, ids, "cancelled")
    assert await moves(db, ids[:-1], "cancelled")


async def test_every_status_has_a_row_in_the_table() -> None:
    assert TRANSITIONS.keys() == set(MessageStatus)


async def test_the_check_and_the_counters_of_the_schema_know_the_same_statuses(db: Database) -> None:
    check = await db.value("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'message_status'")
    assert re.findall(r"WHEN '(\w+)'", check) == list(MessageStatus)
    counters = await db.run("SELECT column_name FROM information_schema.columns WHERE table_name = 'mailing_counts'")
    assert {row[0] for row in counters} == {"mailing_id", "planned", *MessageStatus}


async def test_no_other_status_can_be_stored(db: Database) -> None:
    mailing_id = await db.add_mailing()
    for stranger in ("delivered", "", "SENT", "sent "):
        with pytest.raises(IntegrityError, match="message_status"):
            await db.add_messages(mailing_id, [stranger])


WRONG = [
    ("pending", "lease_until = now()"),
    ("pending", "finished_at = now()"),
    ("sending", "lease_until = NULL"),
    ("sending", "phone = NULL"),
    ("sending", "claim_no = 0"),
    ("sent", "counted_attempts = 0"),
    ("sent", "finished_at = NULL"),
    ("failed", "maybe_accepted = true"),
    ("cancelled", "maybe_accepted = true"),
    ("expired", "maybe_accepted = true"),
    ("unknown", "maybe_accepted = false"),
]


async def test_a_status_that_its_own_columns_contradict_cannot_be_stored(db: Database) -> None:
    ids = dict(zip(MessageStatus, await db.add_messages(await db.add_mailing(), list(MessageStatus)), strict=True))
    for status, change in WRONG:
        with pytest.raises(IntegrityError, match="message_status"):
            await db.run(f"UPDATE message SET {change} WHERE id = :id", id=ids[MessageStatus(status)])


async def test_what_may_have_arrived_at_a_phone_that_was_erased_cannot_become_pending(db: Database) -> None:
    (message_id,) = await db.add_messages(await db.add_mailing(), ["unknown"])
    again = "UPDATE message SET status = 'pending', finished_at = NULL, phone = {} WHERE id = :id"
    with pytest.raises(IntegrityError, match="message_repeatable"):
        await db.run(again.format("NULL"), id=message_id)
    await db.run(again.format("phone"), id=message_id)


async def test_a_client_gets_one_message_of_a_mailing(db: Database) -> None:
    mailing_id, _ = await db.add_mailing_of(["sent"], first_client=1)
    await db.add_mailing_of(["sent"], first_client=1)
    with pytest.raises(IntegrityError, match="message_once"):
        await db.add_messages(mailing_id, ["pending"], first_client=1)

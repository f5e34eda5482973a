"""Results reach the database whatever one row does; what the gateway accepted is sent, however late it comes out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from mailing.database.engine import transaction
from mailing.gateway.outcome import Answer, Outcome
from mailing.messages.claim import ClaimedMessage, claim
from mailing.messages.leases import RetryPolicy, find_expired, reclaim_expired
from mailing.messages.rescheduling import invalidate_windows_of_client
from mailing.messages.results import Called, CallResult, Recorded, record
from mailing.messages.states import MessageStatus
from mailing.reasons.codes import ReasonCode
from mailing.sending import recording
from mailing.sending.retry_policy import RetryContext, decide
from mailing.sending.sweep import sweep
from support.campaign import Campaign
from support.database import Database
from support.send_windows import always_open

POLICY = RetryPolicy(hold=False, base_s=5, max_s=600)
LOSE = "UPDATE message SET lease_until = now() - interval '1 s' WHERE status = 'sending' RETURNING id"


async def test_a_message_that_somebody_holds_locked_holds_no_other_result_back(campaign: Campaign) -> None:
    await campaign.clients(100)
    await campaign.sandbox.behave(latency_s=0.5)
    async with campaign.working():
        mailing = await campaign.mailing()
        async with locked(campaign):
            await campaign.shows(mailing, planned=100, sent=99, sending=1)
        assert await campaign.finished(mailing) == {"planned": 100, "sent": 100}
    assert {item["repeats"] for item in await campaign.sandbox.ledger()} == {0}
    assert await campaign.db.run("SELECT outcome, count(*) FROM attempt GROUP BY 1") == [("accepted", 100)]


async def test_a_message_that_refuses_its_result_holds_no_other_one_back_and_is_not_called_again(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is unknown until its result can be stored after all."""
    monkeypatch.setattr(recording, "REFUSED_RETRY_S", 1.0)
    await campaign.clients(100)
    await campaign.sandbox.behave(latency_s=0.5)
    async with campaign.working():
        mailing = await campaign.mailing()
        await campaign.until_found("SELECT 1 FROM message WHERE status = 'sending'")
        refusing = await campaign.db.value("SELECT max(id) FROM message WHERE status = 'sending'")
        await campaign.db.run(f"ALTER TABLE attempt ADD CONSTRAINT poison CHECK (message_id <> {refusing}) NOT VALID")
        assert await campaign.finished(mailing) == {"planned": 100, "sent": 99, "unknown": 1}
        await campaign.db.run("ALTER TABLE attempt DROP CONSTRAINT poison")
        await campaign.shows(mailing, planned=100, sent=100)
    assert {item["repeats"] for item in await campaign.sandbox.ledger()} == {0}


@pytest.mark.parametrize("hold", [False, True], ids=["it waits again", "it is unknown"])
async def test_a_late_acceptance_of_a_message_that_was_not_claimed_again_is_its_only_attempt(
    db: Database, hold: bool
) -> None:
    first = await claimed_and_lost(db, hold=hold)
    for _ in range(2):  # the second as after a commit whose answer was lost
        await recorded(db, result_of(first, Outcome.accepted))
    assert await state(db) == ("sent", 1, True)
    assert await db.run("SELECT number, outcome, duration_ms FROM attempt") == [(1, "accepted", 5)]
    assert await db.value("SELECT sent FROM mailing_counts") == 1


async def test_a_late_acceptance_calls_off_the_claim_that_the_sweep_had_made_possible(db: Database) -> None:
    """The second call may be under way by then: its outcome finds the message sent, and is remembered."""
    first = await claimed_and_lost(db)
    second = await claimed(db)
    assert (second.claim_no, second.maybe_accepted) == (2, True)
    await recorded(db, result_of(first, Outcome.accepted))
    assert await state(db) == ("sent", 2, True)
    assert (await recorded(db, result_of(second, Outcome.accepted))).moved == 0
    assert await state(db) == ("sent", 2, True)


async def test_where_the_call_was_repeated_a_late_acceptance_leaves_the_reason_for_the_repeat(db: Database) -> None:
    """Accepted twice, and the ambiguous attempt still lies between."""
    first = await claimed_and_lost(db)
    second = await claimed(db)
    await recorded(db, result_of(second, Outcome.accepted))
    await recorded(db, result_of(first, Outcome.accepted))
    attempts = await db.run("SELECT number, outcome, reason_code FROM attempt ORDER BY number")
    assert attempts == [(1, "ambiguous", "recorded_late"), (2, "accepted", None)]
    assert await state(db) == ("sent", 2, True)


@pytest.mark.parametrize("outcome", [Outcome.refused, Outcome.not_sent, Outcome.ambiguous, Outcome.configuration])
async def test_a_result_that_is_no_acceptance_changes_nothing_without_its_lease(db: Database, outcome: Outcome) -> None:
    first = await claimed_and_lost(db)
    assert (await recorded(db, result_of(first, outcome))).moved == 0
    assert await state(db) == ("pending", 1, True)
    assert await db.run("SELECT number, outcome FROM attempt") == [(1, outcome.value)]


async def test_a_repeat_has_the_phone_and_the_text_of_the_call_that_may_have_arrived(db: Database) -> None:
    first = await claimed_and_lost(db)
    await db.run("UPDATE client SET phone = '79160000001'")
    await db.run("UPDATE mailing SET text = 'Edited', text_revision = 2")
    await db.run("UPDATE message SET closes_at = now() + interval '1 h'")  # the phone's change had made it void
    again = await claimed(db)
    assert (again.claim_no, again.phone, again.text_revision) == (2, first.phone, 1)


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (["sent"], "accepted"),
        (["failed"], "ambiguous"),
        (["failed", "pending", "cancelled"], "ambiguous"),
        (["failed", "pending", "expired"], "ambiguous"),
    ],
)
async def test_what_an_operator_said_stands_against_a_late_acceptance(
    db: Database, said: list[str], outcome: str
) -> None:
    """An end that says that nothing was accepted has no attempt that says otherwise."""
    first = await claimed_and_lost(db, hold=True)
    for status in said:
        await db.run(
            """UPDATE message SET status = :status, maybe_accepted = :status = 'sent',
            finished_at = CASE WHEN :status <> 'pending' THEN now() END""",
            status=status,
        )
    assert (await recorded(db, result_of(first, Outcome.accepted))).moved == 0
    assert (await state(db))[0] == said[-1]
    assert await db.value("SELECT outcome FROM attempt") == outcome


async def test_an_expiry_decided_under_an_older_plan_is_void_and_keeps_its_wait(db: Database) -> None:
    """The end was moved on while the call was under way; the settle job decides anew."""
    first = await claimed(db)
    answer = Answer(Outcome.throttled, 429, reason=ReasonCode.http_status, retry_after_s=7200)
    result = result_of(first, answer=answer)
    assert (result.transition.status, result.transition.by_plan) == (MessageStatus.expired, True)
    await db.run("UPDATE mailing SET plan_revision = plan_revision + 1, ends_at = now() + interval '3 days'")
    await recorded(db, result)
    row = await db.run(
        "SELECT status, closes_at = '-infinity', due_at, wait_reason, reason_code, reason_params FROM message"
    )
    assert row == [("pending", True, result.transition.due_at, "rate", "http_status", {"http_status": 429})]


async def test_an_expiry_by_the_hours_of_a_zone_that_the_client_has_left_is_void(db: Database) -> None:
    first = await claimed(db)
    result = result_of(first, answer=Answer(Outcome.throttled, 429, reason=ReasonCode.http_status, retry_after_s=7200))
    assert result.transition.status is MessageStatus.expired
    client_id = await db.value("SELECT client_id FROM message")
    await db.commit(invalidate_windows_of_client, client_id)
    await recorded(db, result)
    assert await db.run("SELECT status, closes_at = '-infinity' FROM message") == [("pending", True)]


async def test_an_expiry_waits_for_the_edit_under_way_that_may_move_the_end(db: Database) -> None:
    first = await claimed(db)
    result = result_of(first, answer=Answer(Outcome.throttled, 429, retry_after_s=7200))
    async with db.engine.begin() as edit:
        await edit.exec_driver_sql("UPDATE mailing SET plan_revision = plan_revision + 1")
        assert await recorded(db, result) == Recorded(0, [first.id])
    await recorded(db, result)
    assert (await state(db))[0] == "pending"


async def test_an_expiry_decided_under_the_present_plan_stands(db: Database) -> None:
    first = await claimed(db)
    await recorded(db, result_of(first, answer=Answer(Outcome.throttled, 429, retry_after_s=7200)))
    assert (await state(db))[0] == "expired"


async def test_one_part_of_the_sweep_that_fails_takes_no_other_one_with_it(db: Database) -> None:
    """A message that refuses to be taken back, and tables that are gone."""
    refusing, *_ = await db.add_messages(await db.add_mailing(), ["sending"] * 3)
    await db.add_mailing()  # with nothing left to wait for
    await db.run(LOSE)
    await db.run(
        f"ALTER TABLE message ADD CONSTRAINT poison CHECK (id <> {refusing} OR counted_attempts = 1) NOT VALID"
    )
    await db.run("ALTER TABLE gateway_calls RENAME TO gone")
    await db.run("ALTER TABLE idempotency_key RENAME TO gone_too")
    assert await sweep(db.sessions, POLICY) == 2
    await db.run("ALTER TABLE message DROP CONSTRAINT poison")
    assert await sweep(db.sessions, POLICY) == 1
    assert await db.value("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'settle_mailing'") == 1


@asynccontextmanager
async def locked(campaign: Campaign) -> AsyncIterator[None]:
    """One of the messages being sent, by somebody who takes his time."""
    async with campaign.db.engine.connect() as other:
        lock = "SELECT id FROM message WHERE status = 'sending' ORDER BY id DESC LIMIT 1 FOR UPDATE SKIP LOCKED"

        async def found() -> bool:
            return (await other.exec_driver_sql(lock)).first() is not None

        await campaign.until(found)
        yield
        await other.rollback()


async def claimed(db: Database) -> ClaimedMessage:
    if not await db.run("SELECT id FROM mailing"):
        await db.add_mailing_of(["pending"], first_client=await db.add_client())
    await db.run("UPDATE message SET due_at = now() - interval '1 s'")
    (message,) = await db.commit(claim, await db.value("SELECT id FROM mailing"), 1)
    return message


async def claimed_and_lost(db: Database, *, hold: bool = False) -> ClaimedMessage:
    message = await claimed(db)
    await db.run(LOSE)
    async with transaction(db.sessions) as session:
        delay = RetryPolicy(hold=hold, base_s=0.001, max_s=1)
        assert await reclaim_expired(session, delay, await find_expired(session)) == 1
    return message


def result_of(
    message: ClaimedMessage, outcome: Outcome = Outcome.accepted, *, answer: Answer | None = None
) -> CallResult:
    answer = answer or Answer(outcome)
    step = decide(answer, message, POLICY, RetryContext(datetime.now(UTC), 0.5, always_open))
    return CallResult(message, step, Called(answer, started_at=message.claimed_at, duration_ms=5))


async def recorded(db: Database, result: CallResult) -> Recorded:
    return await db.commit(record, [result], mailing_id=1, revision=1)


async def state(db: Database) -> tuple[str, int, bool]:
    ((status, number, ambiguous),) = await db.run("SELECT status, claim_no, maybe_accepted FROM message")
    return status, number, ambiguous

"""What the sweep wakes, and how often; and which leases that ran out it finds."""

import pytest
from msgspec.structs import replace

from mailing.mailings.repository import PLAN_TIMEOUT_S
from mailing.messages.leases import RetryPolicy
from mailing.restore import repository as restore_repository
from mailing.sending import sweep as sweeping
from mailing.sending.sweep import sweep
from support.database import Database

LOSE = "UPDATE message SET lease_until = now() - interval '1 s' WHERE id = :id"
WOKEN = "SELECT task_name, CAST(args->>'mailing_id' AS int) FROM procrastinate_jobs ORDER BY id"
POLICY = RetryPolicy(hold=False, base_s=5, max_s=600)


async def due_mailings(db: Database, count: int) -> list[int]:
    client = await db.add_client()
    mailings = [await db.add_mailing() for _ in range(count)]
    for mailing in mailings:
        await db.add_messages(mailing, ["pending"], first_client=client)
    return mailings


async def test_every_mailing_with_work_is_woken_once_however_many_slices_there_are(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "MAX_MAILINGS", 2)
    mailings = await due_mailings(db, 5)
    for _ in range(2):
        await sweep(db.sessions, POLICY)
        assert await db.run(WOKEN) == [("send_mailing", mailing) for mailing in mailings]


async def test_a_mailing_whose_job_waits_for_its_place_is_not_woken_again(db: Database) -> None:
    """Whatever lane the job is of, and whenever it was enqueued for."""
    (mailing,) = await due_mailings(db, 1)
    await sweep(db.sessions, POLICY)
    await db.run(
        """UPDATE procrastinate_jobs
           SET queueing_lock = queueing_lock || '@1', scheduled_at = now(), args = args || '{"lane": 3}'"""
    )
    await sweep(db.sessions, POLICY)
    assert await db.run(WOKEN) == [("send_mailing", mailing)]


async def test_what_this_process_is_sending_is_not_woken_by_itself(db: Database) -> None:
    mailings = await due_mailings(db, 3)
    await sweep(db.sessions, POLICY, {mailings[1]})
    assert await db.run(WOKEN) == [("send_mailing", mailings[0]), ("send_mailing", mailings[2])]


@pytest.mark.parametrize("status", ["running", "paused"])
@pytest.mark.parametrize(("silent_s", "woken"), [(0, []), (PLAN_TIMEOUT_S, ["plan_mailing"])])
async def test_a_plan_is_taken_up_once_its_worker_is_silent_for_long(
    db: Database, status: str, silent_s: int, woken: list[str]
) -> None:
    await db.add_mailing(status=status)
    await db.run(
        """UPDATE mailing SET plan_revision = 2, planning_revision = 2,
        plan_heartbeat_at = now() - make_interval(secs => :silent_s)""",
        silent_s=silent_s,
    )
    await sweep(db.sessions, POLICY)
    assert [task for task, _ in await db.run(WOKEN)] == woken


async def test_the_newest_witnesses_are_kept(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a living process's own row is gone, it would disable sending."""
    monkeypatch.setattr(restore_repository, "WITNESSES_KEPT", 2)
    await db.run("""
        INSERT INTO witness (process, kind, tick, verdict, seen_at)
        SELECT gen_random_uuid(), 'worker', n, 'ready', now() - make_interval(secs => n)
        FROM generate_series(4, 1, -1) n""")
    await sweep(db.sessions, POLICY)
    assert await db.value("SELECT array_agg(tick ORDER BY tick) FROM witness") == [1, 2]


@pytest.fixture
async def messages(db: Database) -> list[int]:
    """Two that are being sent."""
    return await db.add_messages(await db.add_mailing(), ["sending", "sending"])


async def test_a_lease_that_runs_out_later_is_found_by_the_next_look(db: Database, messages: list[int]) -> None:
    for message_id in messages:
        await db.run(LOSE, id=message_id)
        assert await sweep(db.sessions, POLICY) == 1
    assert await sweep(db.sessions, POLICY) == 0


async def test_a_lost_lease_that_somebody_holds_just_then_is_not_forgotten(db: Database, messages: list[int]) -> None:
    await db.run("UPDATE message SET lease_until = now() - interval '1 day' WHERE id = :id", id=messages[0])
    async with db.holding(f"SELECT FROM message WHERE id = {messages[0]} FOR UPDATE"):
        for _ in range(3):
            assert await sweep(db.sessions, POLICY) == 0
    assert await sweep(db.sessions, POLICY) == 1


async def test_the_first_repeat_of_a_lost_call_waits_for_a_receipt_and_later_ones_back_off(
    db: Database, messages: list[int]
) -> None:
    await db.run(
        "UPDATE message SET lease_until = now() - interval '1 s', maybe_accepted = id = :later", later=messages[1]
    )
    assert await sweep(db.sessions, replace(POLICY, first_repeat_s=60)) == 2
    first, later = await db.run("""
        SELECT CAST(extract(epoch FROM m.due_at - a.started_at) AS float) AS wait_s, m.wait_reason
        FROM message m JOIN attempt a ON a.message_id = m.id ORDER BY m.id""")
    assert first == (60, "retry")
    assert 0 < later.wait_s <= 2 * POLICY.base_s


@pytest.mark.parametrize(("revision", "is_void"), [(1, False), (2, True)], ids=["the first plan", "an edit"])
async def test_the_window_of_a_call_lost_since_an_edit_is_void(
    db: Database, messages: list[int], revision: int, is_void: bool
) -> None:
    for message_id in messages:
        await db.run(LOSE, id=message_id)
    await db.run("UPDATE mailing SET plan_revision = :revision, plan_heartbeat_at = now()", revision=revision)
    assert await sweep(db.sessions, POLICY) == 2
    assert await db.run("SELECT status, closes_at = '-infinity' FROM message") == [("pending", is_void)] * 2

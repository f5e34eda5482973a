"""Whatever dies, and whenever: nothing is lost, and nothing is repeated but what was in flight."""

import asyncio
import signal
from collections import Counter
from pathlib import Path

import pytest
from msgspec.structs import replace

from mailing.observability import failures
from mailing.sending import recording
from support.campaign import Campaign
from support.commands import worker_process
from support.mailing_requests import open_for
from support.processes import until

pytestmark = pytest.mark.slow

CUT_OFF = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'mailing-worker'"""


async def test_a_worker_killed_in_the_middle_loses_nothing_and_repeats_only_what_was_in_flight(
    campaign: Campaign, tmp_path: Path
) -> None:
    await campaign.clients(2000)
    await campaign.sandbox.behave(latency_s=0.1)
    mailing = await campaign.mailing()
    in_flight: set[int] = set()
    for sent_before_the_kill in (200, 900):
        async with worker_process(campaign.settings, tmp_path) as worker:
            await campaign.reaches(mailing, sent=sent_before_the_kill)
            worker.send_signal(signal.SIGKILL)
            await worker.wait()
        held = await campaign.db.run("""
            UPDATE message SET lease_until = now() - interval '1 s' WHERE status = 'sending' RETURNING id""")
        in_flight |= {row.id for row in held}
    assert in_flight
    async with worker_process(campaign.settings, tmp_path) as worker:
        assert await campaign.finished(mailing) == {"planned": 2000, "sent": 2000}
        under_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        worker.send_signal(signal.SIGTERM if under_nohup else signal.SIGHUP)  # the terminal was closed
        assert await worker.wait() == 0
    accepted = Counter(item["id"] for item in await campaign.sandbox.ledger())
    assert len(accepted) == 2000
    assert {id_ for id_, times in accepted.items() if times > 1} <= in_flight


async def test_a_worker_that_is_asked_to_stop_finishes_its_calls_and_gives_back_the_rest(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also calls that may take longer than other jobs, which end sooner."""
    monkeypatch.setattr("mailing.worker.GRACE_S", 0.1)
    await campaign.clients(1000)
    await campaign.sandbox.behave(latency_s=0.3)
    async with campaign.working():
        mailing = await campaign.mailing()
        await campaign.reaches(mailing, sent=64)
    counts = await campaign.counts(mailing)
    assert "sending" not in counts
    assert counts["sent"] == len(await campaign.sandbox.ledger()) < 1000
    await campaign.sandbox.behave()
    async with campaign.working():
        assert await campaign.finished(mailing) == {"planned": 1000, "sent": 1000}
    assert {item["repeats"] for item in await campaign.sandbox.ledger()} == {0}


@pytest.mark.parametrize("rate", [0.0, 200.0], ids=["without a limit", "with a rate limit"])
async def test_terminated_database_connections_lose_and_repeat_nothing(campaign: Campaign, rate: float) -> None:
    """With a limit the database is asked for a slot in the middle of a call, too."""
    await campaign.clients(600)
    await campaign.sandbox.behave(latency_s=0.1)
    async with campaign.working(gateway_rate=rate):
        mailing = await campaign.mailing()
        for least in (50, 150, 200, 250, 300):
            await campaign.reaches(mailing, sent=least)
            await campaign.db.run(CUT_OFF)
        await campaign.until(lambda: _sent_but_for_lost_claims(campaign, mailing))
    accepted = Counter(item["id"] for item in await campaign.sandbox.ledger())
    assert set(accepted.values()) == {1}
    assert len(accepted) == 600


@pytest.mark.parametrize(
    ("revoke", "grant"),
    [
        ("REVOKE CONNECT ON DATABASE {} FROM PUBLIC", "GRANT CONNECT ON DATABASE {} TO PUBLIC"),
        ("REVOKE UPDATE ON message FROM mailing_worker", "GRANT UPDATE ON message TO mailing_worker"),
    ],
    ids=["connections", "a table"],
)
async def test_a_server_that_refuses_the_workers_a_right_loses_and_repeats_nothing(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch, revoke: str, grant: str
) -> None:
    """As while a password is changed. No row is at fault, so no result is given up however often it is refused."""
    events: list[str] = []
    monkeypatch.setattr(failures, "log", lambda _logger, event, *_, **_ids: events.append(event))
    monkeypatch.setattr(recording, "RETRY_EVERY_S", 0.01)
    database = await campaign.db.value("SELECT current_database()")
    await campaign.clients(60)
    await campaign.sandbox.behave(latency_s=1)
    async with campaign.working():
        mailing = await campaign.mailing()
        await campaign.reaches(mailing, sending=60)
        await campaign.db.run(revoke.format(database))
        await campaign.db.run(CUT_OFF)
        await until(lambda: events.count("recording failed") > recording.GIVE_UP_AFTER)
        await campaign.db.run(grant.format(database))
        assert await campaign.finished(mailing) == {"planned": 60, "sent": 60}
    assert "result refused" not in events
    assert await campaign.db.run("SELECT outcome, count(*) FROM attempt GROUP BY 1") == [("accepted", 60)]


async def test_calls_that_are_overdue_because_the_worker_was_frozen_say_nothing_about_the_gateway(
    campaign: Campaign, tmp_path: Path
) -> None:
    await campaign.clients(300)
    await campaign.sandbox.behave(latency_s=0.5)
    async with worker_process(replace(campaign.settings, gateway_timeout_s=2.0), tmp_path) as worker:
        mailing = await campaign.mailing()
        await campaign.reaches(mailing, sent=64)
        worker.send_signal(signal.SIGSTOP)
        await asyncio.sleep(8)  # past the deadline of every call, and OVERDUE_S
        worker.send_signal(signal.SIGCONT)
        await campaign.finished(mailing)
    assert await campaign.db.run("SELECT 1 FROM attempt WHERE outcome = 'ambiguous'")
    assert await campaign.db.run("SELECT DISTINCT failed FROM gateway_calls") == [(0,)]


async def test_a_plan_that_was_interrupted_is_taken_up_by_the_sweep(campaign: Campaign) -> None:
    """As a worker leaves it that is killed after its first slice, with the job gone as well."""
    await campaign.clients(50)
    mailing = await campaign.mailing(starts_in_s=3600, lasts_s=7200)
    await campaign.db.run("DELETE FROM procrastinate_jobs")
    await campaign.db.run(
        """UPDATE mailing SET starts_at = now() - interval '1 minute', status = 'running', started_at = now(),
           planning_revision = 1, plan_heartbeat_at = now() - interval '1 minute', audience_max_client_id = 50
           WHERE id = :id""",
        id=mailing,
    )
    async with campaign.working():
        assert await campaign.finished(mailing) == {"planned": 50, "sent": 50}


async def test_a_message_put_back_by_a_sender_that_had_not_seen_the_opt_out_is_cancelled(campaign: Campaign) -> None:
    """The opt-out commits between the sender's look at the client and its writing of the message."""
    (client,) = await campaign.clients(1)
    await campaign.sandbox.behave(latency_s=3.0, refuse_400=1.0)
    async with campaign.working():
        mailing = await campaign.mailing()
        await campaign.reaches(mailing, sending=1)
        assert (await campaign.api.patch(f"/clients/{client}/", json={"opted_out": True})).status_code == 200
        await campaign.db.run("""
            UPDATE message SET status = 'pending', lease_until = NULL, due_at = now() WHERE status = 'sending'""")
        assert await campaign.finished(mailing) == {"planned": 1, "cancelled": 1}
    assert [message["status_reason"] for message in await campaign.messages(mailing)] == ["the client opted out"]


async def test_whom_an_edit_leaves_out_while_a_claim_waits_is_not_sent_to(campaign: Campaign) -> None:
    """One connection: the second message is claimed, and waits for the first one's call."""
    await campaign.clients(2, tag="a")
    await campaign.sandbox.behave(latency_s=3.0)
    async with campaign.working(gateway_concurrency=1):
        mailing = await campaign.mailing(filter={"tags": ["a"]})
        await campaign.shows(mailing, planned=2, sending=2)
        assert (await campaign.api.patch(f"/mailings/{mailing}/", json={"filter": {"tags": ["b"]}})).is_success
        assert await campaign.finished(mailing) == {"planned": 2, "sent": 1, "cancelled": 1}
    assert len(await campaign.sandbox.ledger()) == 1
    reasons = {message["status_reason"] for message in await campaign.messages(mailing)}
    assert "an edit of the mailing no longer selects this client" in reasons


async def test_whom_an_edit_leaves_out_is_not_called_again_after_its_worker_was_lost(campaign: Campaign) -> None:
    await campaign.clients(2, tag="a")
    mailing = await campaign.mailing(filter={"tags": ["a"]}, starts_in_s=3600, lasts_s=7200)
    await campaign.db.run(
        """UPDATE mailing SET starts_at = now() - interval '1 minute', status = 'running', started_at = now(),
           planned_revision = 1, planning_revision = 1, plan_heartbeat_at = now(), audience_max_client_id = 2
           WHERE id = :id""",
        id=mailing,
    )
    await campaign.db.run(
        """INSERT INTO message (mailing_id, client_id, status, claim_no, due_at, closes_at, lease_until, phone,
               text_revision)
           SELECT :id, id, 'sending', 1, now(), now() + interval '1 h', now() - interval '1 s', phone, 1 FROM client""",
        id=mailing,
    )
    await campaign.db.run("UPDATE message SET lease_until = lease_until")  # as a claim: a lease is noted
    assert (await campaign.api.patch(f"/mailings/{mailing}/", json={"filter": {"tags": ["b"]}})).is_success
    await campaign.db.run("UPDATE mailing SET plan_heartbeat_at = now()")
    async with campaign.working():
        assert await campaign.finished(mailing) == {"planned": 2, "unknown": 2}


async def test_a_client_who_moves_while_messages_wait_is_sent_to_in_the_new_local_hours(campaign: Campaign) -> None:
    (client,) = await campaign.clients(1, timezone="Etc/GMT-6")
    async with campaign.working():
        mailing = await campaign.mailing(local_window=open_for(1), lasts_s=2 * 86400)
        await campaign.shows(mailing, planned=1, pending=1)
        moved = await campaign.api.patch(f"/clients/{client}/", json={"timezone": "UTC"})
        assert moved.status_code == 200
        assert await campaign.finished(mailing) == {"planned": 1, "sent": 1}
    assert len(await campaign.sandbox.ledger()) == 1


async def _sent_but_for_lost_claims(campaign: Campaign, mailing: int) -> bool:
    """Cut off a claim's commit: no worker owns the messages. The lease is shortened here from 60 s to 10 s."""
    await campaign.db.run("""
        UPDATE message SET lease_until = now() - interval '1 s'
        WHERE status = 'sending' AND lease_until < now() + interval '50 s'""")
    return await campaign.counts(mailing) == {"planned": 600, "sent": 600}

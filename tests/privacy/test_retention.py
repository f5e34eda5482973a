import asyncio
from functools import partial

import pytest
from msgspec.structs import replace
from sqlalchemy import text

from mailing.database.engine import transaction
from mailing.messages import redaction
from mailing.messages.after_restore import MessageSlice
from mailing.messages.redaction import redact_slice
from mailing.messages.states import MessageStatus
from mailing.privacy import retention
from mailing.privacy.repository import delete_events
from mailing.privacy.retention import delete_old_events, redact_old
from mailing.settings import Settings
from support.api import Api
from support.database import Database
from support.query_plans import ANALYZE, blocks, nodes, plans

ENDS = ("sent", "failed", "cancelled", "expired", "unknown")
RECEIPTS = """
    INSERT INTO receipt (message_id, mailing_id, state, at)
    SELECT id, mailing_id, 3, now() FROM message ON CONFLICT DO NOTHING"""
ATTEMPTS = """
    INSERT INTO attempt (message_id, mailing_id, number, started_at, duration_ms, outcome)
    SELECT id, mailing_id, claim_no, now(), 5, 'accepted' FROM message WHERE counted_attempts > 0
    ON CONFLICT DO NOTHING"""
PHONES = "SELECT count(*) FROM message WHERE mailing_id = :id AND phone IS NOT NULL"


@pytest.fixture
def keeping(settings: Settings) -> Settings:
    return replace(settings, retention_days=30)


async def closed(db: Database, *, days: int, status: str = "finished", first_client: int = 1000) -> int:
    """Add a mailing with three messages in each final state, which closed `days` ago."""
    mailing_id, _ = await db.add_mailing_of(ENDS * 3, first_client=first_client, text="Your code is 1234")
    close = """
        UPDATE mailing SET status = :status, ends_at = now() - make_interval(days => :days),
            starts_at = now() - interval '1 day' - make_interval(days => :days),
            finished_at = CASE :status WHEN 'finished' THEN now() - make_interval(days => :days) END,
            updated_at = now() - make_interval(days => :days) WHERE id = :id"""
    await db.run(close, id=mailing_id, days=days, status=status)
    return mailing_id


@pytest.mark.parametrize("status", ["finished", "cancelled"])
async def test_after_the_days_phones_and_words_are_blank_and_everything_counted_stays(
    db: Database, keeping: Settings, api: Api, status: str
) -> None:
    mailing_id = await closed(db, days=31, status=status)
    before = (await api.get(f"/statistics/{mailing_id}/")).json()["counts"]
    assert before["planned"] == 15
    await redact_old(db.sessions, keeping)
    after = (await api.get(f"/statistics/{mailing_id}/")).json()
    assert after["counts"] == before
    assert {message["phone"] for message in after["messages"]["items"]} == {""}
    assert await db.value(PHONES, id=mailing_id) == 0
    assert await db.run("SELECT DISTINCT text FROM mailing_text") == [("",)]
    assert (await api.get(f"/mailings/{mailing_id}/")).json()["text"] == ""
    story = (await api.get(f"/messages/{after['messages']['items'][0]['id']}/")).json()
    assert (story["phone"], story["text"]) == ("", "")
    assert await db.value("SELECT actor FROM event WHERE kind = 'mailing.redacted'") == "retention"


async def test_what_the_gateway_answered_goes_with_the_phones_and_the_number_of_calls_stays(
    db: Database, keeping: Settings, api: Api
) -> None:
    old, young = await closed(db, days=31), await closed(db, days=29, first_client=2000)
    await db.run(ATTEMPTS)
    await redact_old(db.sessions, keeping)
    assert await db.run("SELECT DISTINCT mailing_id FROM attempt") == [(young,)]
    sent = (await api.get(f"/statistics/{old}/", params={"status": "sent"})).json()["messages"]["items"][0]
    story = (await api.get(f"/messages/{sent['id']}/")).json()
    assert (story["attempts"], story["history"]) == (1, [])


async def test_receipts_go_with_the_phones_and_what_they_counted_stays(db: Database, keeping: Settings) -> None:
    old, young = await closed(db, days=31), await closed(db, days=29, first_client=2000)
    await db.run(RECEIPTS)
    counted = await db.run("SELECT * FROM receipt_counts ORDER BY mailing_id")
    await redact_old(db.sessions, keeping)
    assert await db.run("SELECT DISTINCT mailing_id FROM receipt") == [(young,)]
    assert await db.run("SELECT * FROM receipt_counts ORDER BY mailing_id") == counted
    assert [row.mailing_id for row in counted] == [old, young]


@pytest.mark.parametrize("blanked_before", [False, True])
async def test_a_slice_costs_its_own_messages_and_none_of_those_kept_beside_it(
    db: Database, blanked_before: bool
) -> None:
    """Count the pages read with 3,000 and with 15,000 messages. A vacuum in between would save some of them."""
    cost = []
    await db.run("ALTER TABLE message SET (autovacuum_enabled = false)")
    for number in range(1, 6):
        mailing_id = await closed(db, days=31, first_client=100_000 * number)
        await db.add_messages(mailing_id, ["sent"] * 3000, first_client=100_000 * number + 50)
        await db.run(ATTEMPTS)
        await db.run(RECEIPTS)
        if blanked_before:
            await db.run("UPDATE message SET phone = NULL WHERE mailing_id < :id", id=mailing_id)
        one_slice = partial(
            redaction.redact_slice, part=MessageSlice(mailing_id, MessageStatus.sent, after=0, count=3000)
        )
        await db.run(ANALYZE)
        measured = await plans(db.engine, one_slice)
        assert not [node for plan in measured for node in nodes(plan) if node["Node Type"] == "Seq Scan"]
        cost.append(sum(blocks(plan) for plan in measured))
    assert max(cost) <= cost[0] * 1.1 + 10, cost


async def test_a_client_who_is_still_there_is_kept_but_not_shown_with_a_blanked_message(
    db: Database, keeping: Settings, api: Api
) -> None:
    client_id = await db.add_client()
    mailing_id = await closed(db, days=31, first_client=client_id)
    await redact_old(db.sessions, keeping)
    messages = (await api.get(f"/statistics/{mailing_id}/")).json()["messages"]["items"]
    assert {message["phone"] for message in messages} == {""}
    assert (await api.get(f"/clients/{client_id}/")).json()["phone"] == "79161234567"


async def test_nothing_is_blanked_before_the_days_are_over_or_while_a_mailing_is_open(
    db: Database, settings: Settings, keeping: Settings
) -> None:
    young = await closed(db, days=29)
    running = await closed(db, days=31, status="running", first_client=2000)
    may_run_again = await closed(db, days=31, first_client=3000)
    await db.run("UPDATE mailing SET ends_at = now() + interval '1 day' WHERE id = :id", id=may_run_again)
    old = await closed(db, days=400, first_client=4000)
    await redact_old(db.sessions, settings)
    assert await db.value(PHONES, id=old) > 0
    await redact_old(db.sessions, keeping)
    assert await db.value(PHONES, id=old) == 0
    assert all([await db.value(PHONES, id=each) for each in (young, running, may_run_again)])


async def test_a_run_that_was_killed_between_two_slices_is_taken_up_by_the_next(
    db: Database, keeping: Settings
) -> None:
    mailing_id = await closed(db, days=31)
    phones = await db.value(PHONES, id=mailing_id)
    await db.commit(redact_slice, MessageSlice(mailing_id, MessageStatus.sent, count=2))
    assert await db.value(PHONES, id=mailing_id) == phones - 2
    await redact_old(db.sessions, keeping)
    assert await db.value(PHONES, id=mailing_id) == 0
    assert await db.value("SELECT count(*) FROM event WHERE kind = 'mailing.redacted'") == 1


async def test_two_workers_at_once_blank_everything_and_neither_fails(
    db: Database, keeping: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "SLICE", 2)
    mailings = [await closed(db, days=31, first_client=1000 * n) for n in (1, 2)]
    await asyncio.gather(redact_old(db.sessions, keeping), redact_old(db.sessions, keeping))
    await redact_old(db.sessions, keeping)
    assert [await db.value(PHONES, id=each) for each in mailings] == [0, 0]


async def test_a_blanked_mailing_has_no_words_to_test(db: Database, keeping: Settings, api: Api) -> None:
    await db.add_client()
    mailing_id = await closed(db, days=31)
    await redact_old(db.sessions, keeping)
    answer = await api.post(f"/mailings/{mailing_id}/test", json={"phone": "79161234567"})
    assert answer.status_code == 409
    assert "MAILING_RETENTION_DAYS" in answer.json()["detail"]


# --- events -----------------------------------------------------------------------------------------------------------


async def noted(db: Database, kind: str, *, days: int, mailing_id: int | None = None) -> None:
    add = """
        INSERT INTO event (at, kind, actor, mailing_id)
        VALUES (now() - make_interval(days => :days), :kind, 'user 1 (admin)', CAST(:mailing_id AS bigint))"""
    await db.run(add, kind=kind, days=days, mailing_id=mailing_id)


async def test_events_about_clients_are_forgotten_after_the_days_and_younger_ones_are_not(
    db: Database, settings: Settings, keeping: Settings
) -> None:
    for kind, days in [("client.changed", 31), ("clients.imported", 31), ("client.deleted", 29), ("client.created", 0)]:
        await noted(db, kind, days=days)
    await delete_old_events(db.sessions, settings)
    assert len(await db.kinds()) == 4, "0 days keep everything"
    await delete_old_events(db.sessions, keeping)
    assert await db.kinds() == ["client.deleted", "client.created"]


async def test_events_of_a_mailing_are_forgotten_when_its_phones_were(db: Database, keeping: Settings) -> None:
    """However long it runs, its story is whole until then."""
    old = await closed(db, days=31)
    running = await closed(db, days=31, status="running", first_client=2000)
    await noted(db, "mailing.created", days=40, mailing_id=old)
    await noted(db, "mailing.created", days=40, mailing_id=running)
    await delete_old_events(db.sessions, keeping)
    assert await db.kinds() == ["mailing.created", "mailing.created"]
    await redact_old(db.sessions, keeping)
    await delete_old_events(db.sessions, keeping)
    left = await db.run("SELECT kind, mailing_id FROM event ORDER BY id")
    assert left == [("mailing.created", running), ("mailing.redacted", old)]


@pytest.mark.parametrize(
    "kind", ["user.sign_in_failed", "key.revoked", "gateway.stopped", "database.rolled_back", "client.opted_out"]
)
async def test_who_had_access_who_stopped_what_and_who_opted_out_is_kept_for_good(
    db: Database, keeping: Settings, kind: str
) -> None:
    await noted(db, kind, days=4000)
    await delete_old_events(db.sessions, keeping)
    assert await db.kinds() == [kind]


async def test_events_are_forgotten_in_slices_over_what_is_kept_between_them(
    db: Database, keeping: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "SLICE", 10)
    for kind, count in [("user.signed_in", 25), ("client.changed", 25), ("key.created", 5), ("client.created", 7)]:
        add = """
            INSERT INTO event (at, kind, actor)
            SELECT now() - interval '50 days', :kind, 'a' FROM generate_series(1, :count)"""
        await db.run(add, kind=kind, count=count)
    await noted(db, "client.deleted", days=1)
    await delete_old_events(db.sessions, keeping)
    assert set(await db.kinds()) == {"user.signed_in", "key.created", "client.deleted"}


async def test_a_slice_of_events_reads_no_more_than_itself(db: Database) -> None:
    """By the primary key, and not the table behind it."""
    add = """
        INSERT INTO event (at, kind, actor)
        SELECT now() - interval '50 days', 'client.changed', 'a' FROM generate_series(1, 20000)"""
    await db.run(add)
    await db.run("ANALYZE event")
    scans = text("SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'event'")
    async with transaction(db.sessions) as session:
        before = await session.scalar(scans)  # the connection's own, with what the statistics have not got yet
        assert await delete_events(session, 30, after=0, count=100) is not None
        assert await session.scalar(scans) == before
    assert await db.value("SELECT count(*) FROM event") == 19_900

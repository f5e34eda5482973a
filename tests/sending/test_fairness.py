"""A huge mailing leaves room for a small one, and many for one more; what is no sending waits for none."""

from datetime import UTC, datetime, timedelta

import pytest

from mailing.database.engine import transaction
from mailing.job_queue.enqueue import defer
from support.campaign import Campaign

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("rate", [0, 200])
async def test_a_small_mailing_is_done_while_a_huge_one_has_hardly_begun(campaign: Campaign, rate: float) -> None:
    """Both are due at every moment, so the small one's share is what the order of claims gives it."""
    await campaign.clients(20_000, tag="many")
    await campaign.clients(100, tag="few")
    await campaign.sandbox.behave(latency_s=0.1)
    async with campaign.working(gateway_rate=rate):
        huge = await campaign.mailing(filter={"tags": ["many"]})
        await campaign.reaches(huge, sent=200)
        urgent = await campaign.mailing(filter={"tags": ["few"]})
        assert await campaign.finished(urgent) == {"planned": 100, "sent": 100}
        before = await campaign.db.value(
            """SELECT count(*) FROM attempt a JOIN message m ON m.id = a.message_id WHERE m.mailing_id = :huge
               AND a.started_at BETWEEN (SELECT created_at FROM mailing WHERE id = :urgent)
                   AND (SELECT max(finished_at) FROM message WHERE mailing_id = :urgent)""",
            huge=huge,
            urgent=urgent,
        )
    assert before <= 1500


async def test_beside_many_mailings_an_urgent_one_begins_soon_and_an_end_is_settled_soon(campaign: Campaign) -> None:
    """30 mailings of 100 over 8 connections that take half a second: more than three minutes of work.

    What is soon is counted in the calls of the others, which a slow machine makes more slowly, too.
    """
    await campaign.clients(100, tag="many")
    await campaign.clients(1, tag="one")
    await campaign.sandbox.behave(latency_s=0.5)
    async with campaign.working(gateway_concurrency=8):
        for _ in range(30):
            await campaign.mailing(filter={"tags": ["many"]})
        ends = await campaign.mailing(filter={"tags": ["many"]}, lasts_s=8)
        await campaign.until_found(THIRTY_BEGAN)  # on a slow machine, the end may come before a call
        urgent = await campaign.mailing(filter={"tags": ["one"]})
        await campaign.until(lambda: _both_are_done(campaign, urgent, ends))
    before_the_first = await campaign.db.value(BEFORE_THE_FIRST, id=urgent)
    after_the_end = await campaign.db.value(AFTER_THE_END, id=ends)
    assert before_the_first <= SOON
    assert after_the_end <= 2 * SOON


SOON = 80  # calls: five seconds of all connections
THIRTY_BEGAN = "SELECT 1 FROM attempt HAVING count(DISTINCT mailing_id) >= 30"
BEFORE_THE_FIRST = """
    SELECT count(*) FROM attempt a JOIN mailing g ON g.id = :id AND a.started_at BETWEEN g.created_at AND (
        SELECT min(started_at) FROM attempt WHERE mailing_id = :id)"""
AFTER_THE_END = """
    SELECT count(*) FROM attempt a JOIN mailing g ON g.id = :id AND a.started_at BETWEEN g.ends_at AND g.finished_at"""
LATE = f"""
    SELECT task_name FROM procrastinate_jobs j
    WHERE status = 'todo' AND task_name IN ('sweep', 'report', 'settle_mailing') AND {SOON} < (
        SELECT count(*) FROM attempt WHERE started_at BETWEEN greatest(
            j.scheduled_at, (SELECT max(at) FROM procrastinate_events WHERE job_id = j.id)) AND now())"""


async def _both_are_done(campaign: Campaign, urgent: int, ends: int) -> bool:
    """Wait until one has begun and the other is finished; require that nothing else was late meanwhile."""
    assert not await campaign.db.run(LATE)
    done = """
        SELECT EXISTS (SELECT FROM attempt WHERE mailing_id = :urgent)
            AND (SELECT finished_at IS NOT NULL FROM mailing WHERE id = :ends)"""
    return bool(await campaign.db.value(done, urgent=urgent, ends=ends))


async def test_when_hundreds_begin_in_one_second_the_first_call_follows_at_once(campaign: Campaign) -> None:
    await campaign.clients(1)
    starts_at = datetime.now(UTC) + timedelta(seconds=5)
    await _schedule(campaign, 300, starts_at)
    async with campaign.working():
        await campaign.until(lambda: _is_sent(campaign))
    [(began_at, plans_before)] = await campaign.db.run("""
        SELECT began_at, (SELECT count(*) FROM event WHERE kind = 'mailing.planned' AND at < began_at)
        FROM (SELECT min(started_at) AS began_at FROM attempt) AS first""")
    assert began_at >= starts_at
    assert plans_before <= 30, "a tenth of all"


async def _schedule(campaign: Campaign, count: int, starts_at: datetime) -> None:
    """As the API stores them."""
    rows = await campaign.db.run(
        """INSERT INTO mailing (text, starts_at, ends_at, status, released_revision, released_at, released_by)
           SELECT 'hello', at, at + interval '1 h', 'scheduled', 1, now(), 'tests'
           FROM CAST(:at AS timestamptz) at, generate_series(1, CAST(:count AS int)) RETURNING id""",
        at=starts_at,
        count=count,
    )
    async with transaction(campaign.db.sessions) as session:
        for row in rows:
            await defer(session, "plan_mailing", at=starts_at, mailing_id=row.id)


async def _is_sent(campaign: Campaign) -> bool:
    """No transaction of the worker lasts longer than others can wait for."""
    assert await campaign.db.value(LONGEST_S) <= 5
    return bool(await campaign.db.run("SELECT id FROM message WHERE status = 'sent' LIMIT 1"))


LONGEST_S = """
    SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'mailing-worker'"""

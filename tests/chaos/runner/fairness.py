"""The drill of fairness: a mailing, an end and what keeps the house wait for no other mailing."""

import asyncio
import time
from functools import partial
from pathlib import Path
from typing import Final

from chaos.runner.drill import Drill, drilling
from chaos.runner.report import Promise, figure, within
from chaos.runner.timeline import Trial


async def fairness(directory: Path) -> list[Promise]:
    """Nobody waits for a huge mailing, for many mailings, or for many that begin at once."""
    return [*await _beside_a_huge_one(directory), *await _beside_many(directory), *await _many_at_once(directory)]


async def _beside_a_huge_one(directory: Path) -> list[Promise]:
    """Send an urgent mailing of 100 beside one of 1,000,000."""
    trial = Trial(name="fairness", messages=1_000_000, workers=2, connections=64, latency_s=0.05, kills=0)
    async with drilling(directory, trial, gateway_timeout_s=10.0) as drill:
        await drill.clients(100, tag="urgent")
        huge = await drill.mailing(tag="drill")
        await drill.until(lambda: drill.sent(huge, 5000))
        began, urgent = time.monotonic(), await drill.mailing(tag="urgent")
        await drill.until(lambda: drill.sent(urgent, 100))
        took_s, counts = time.monotonic() - began, await drill.counts(huge)
    return [
        within("100 urgent beside 1,000,000: done", 10, took_s),
        figure("the huge one meanwhile", f"{counts['sent']:,} of {counts['planned']:,} planned sent"),
    ]


async def _beside_many(directory: Path) -> list[Promise]:
    """Send an urgent mailing, and one that ends, beside 120 through a gateway that takes a second to answer."""
    trial = Trial(name="many", messages=600, workers=1, connections=64, latency_s=1.0, kills=0)
    async with drilling(directory, trial, gateway_timeout_s=10.0) as drill:
        await drill.clients(1, tag="urgent")
        for _ in range(MANY):
            await drill.mailing(tag="drill")
        ends = await drill.mailing(tag="drill", lasts_s=25)
        await drill.until(lambda: drill.holds("SELECT count(DISTINCT mailing_id) > 120 FROM attempt"))
        late = asyncio.create_task(_latest(drill, seconds=60))
        began_s = []
        for _ in range(3):
            urgent = await drill.mailing(tag="urgent")
            await drill.until(partial(drill.holds, BEGUN.format(urgent)))
            began_s.append(float(await drill.value(BEGAN_S.format(urgent))))
        await drill.until(lambda: drill.holds(f"SELECT finished_at IS NOT NULL FROM mailing WHERE id = {ends}"))
        settled_s = float(await drill.value(SETTLED_S.format(ends)))
        waited = await late
    return [
        within(f"urgent beside {MANY} over a slow gateway: first call", 5, *began_s),
        within("beside them: an end is settled", 10, settled_s),
        *(within(f"beside them: longest wait of {task}", 5, waited_s) for task, waited_s in waited.items()),
    ]


MANY: Final = 120
BEGUN: Final = "SELECT count(*) > 0 FROM attempt WHERE mailing_id = {}"
BEGAN_S: Final = """
    SELECT extract(epoch FROM (SELECT min(started_at) FROM attempt WHERE mailing_id = g.id) - created_at)
    FROM mailing g WHERE id = {}"""
SETTLED_S: Final = "SELECT extract(epoch FROM finished_at - ends_at) FROM mailing WHERE id = {}"
WAITED_S: Final = """
    SELECT extract(epoch FROM coalesce(max(now() - coalesce(scheduled_at, at)), '0')) FROM procrastinate_jobs j
    CROSS JOIN LATERAL (SELECT min(at) AS at FROM procrastinate_events WHERE job_id = j.id) e
    WHERE status = 'todo' AND task_name = '{}'"""


async def _latest(drill: Drill, *, seconds: float) -> dict[str, float]:
    """Return the longest that a job of each task was seen waiting."""
    waited = {"sweep": 0.0, "report": 0.0, "settle_mailing": 0.0}
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for task, seen_s in waited.items():
            waited[task] = max(seen_s, float(await drill.value(WAITED_S.format(task))))
        await asyncio.sleep(0.5)
    return waited


async def _many_at_once(directory: Path) -> list[Promise]:
    """4,000 mailings of one message each begin in the same second."""
    trial = Trial(name="at-once", messages=1, workers=1, connections=64, latency_s=0.05, kills=0)
    async with drilling(directory, trial, gateway_timeout_s=10.0) as drill:
        await drill.value(SCHEDULE)
        await drill.until(lambda: drill.holds("SELECT starts_at <= now() FROM mailing LIMIT 1"))
        longest_s, until = 0.0, time.monotonic() + 60
        while time.monotonic() < until:
            longest_s = max(longest_s, float(await drill.value(LONGEST_S)))
            await asyncio.sleep(0.2)
        first_s = float(await drill.value(FIRST_S) or 60)
        begun = await drill.value("SELECT count(DISTINCT mailing_id) FROM attempt")
    return [
        within("4,000 that begin in one second: first call", 5, first_s),
        within("4,000: longest transaction of a worker", 5, longest_s),
        figure("4,000: begun within a minute", f"{begun:,}"),
    ]


# As the API stores them and enqueues their jobs.
SCHEDULE: Final = """
    WITH made AS (
        INSERT INTO mailing (text, starts_at, ends_at, status, released_revision, released_at, released_by)
        SELECT 'drill', at, at + interval '3 h', 'scheduled', 1, now(), 'drill'
        FROM generate_series(1, 4000), CAST(now() + interval '20 s' AS timestamptz) at
        RETURNING id, starts_at
    )
    SELECT procrastinate_defer_jobs_v1(ARRAY(
        SELECT ROW('planning', 'plan_mailing', 0, NULL, concat_ws(':', 'plan_mailing', id) || '@0',
            jsonb_build_object('mailing_id', id), starts_at)::procrastinate_job_to_defer_v1 FROM made))"""
FIRST_S: Final = """
    SELECT extract(epoch FROM (SELECT min(started_at) FROM attempt) - starts_at) FROM mailing LIMIT 1"""
LONGEST_S: Final = """
    SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'mailing-worker'"""

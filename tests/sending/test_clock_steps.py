"""The database's clock steps. Simulated by what lies ahead of it then."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from mailing.database.clock import DatabaseClock
from mailing.database.engine import autocommit
from mailing.gateway.actions import change_rate
from mailing.gateway.rate_limiter import MAX_AHEAD_S, RateLimiter, take_slots
from mailing.sending.clock_steps import adjust_to_clock_steps
from support.campaign import Campaign
from support.database import Database

pytestmark = pytest.mark.slow

HOUR = "interval '1 hour'"


async def test_slots_given_away_by_a_clock_that_went_back_hold_back_nobody_and_are_not_given_twice(
    db: Database,
) -> None:
    async with autocommit(db.sessions) as session:
        await change_rate(session, 40, by="test")
        await db.run(f"UPDATE gateway SET next_slot_at = clock_timestamp() + {HOUR}")
        first = await take_slots(session, 8)
        assert first
        assert await take_slots(session, 8) is None, "the next ones follow those, they don't repeat them"
        begins = first.until - timedelta(seconds=first.count * first.spacing_s)
        assert timedelta(seconds=MAX_AHEAD_S) < begins - first.now < timedelta(seconds=2)
        async with asyncio.timeout(10):
            while not (second := await take_slots(session, 8)):  # noqa: ASYNC110 - the row tells
                await asyncio.sleep(0.05)
        assert second.until >= first.until


@pytest.mark.parametrize("lower", [0.01, 1e-300])
async def test_a_lower_rates_slots_hold_a_higher_rate_back_no_longer(lower: float, db: Database) -> None:
    async with autocommit(db.sessions) as session:
        await change_rate(session, lower, by="test")
        await take_slots(session, 1)
        assert await take_slots(session, 1) is None
        await change_rate(session, 40, by="test")
        assert await take_slots(session, 8)
    assert await db.value("SELECT next_slot_at < clock_timestamp() + interval '3 s' FROM gateway")


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_worker_follows_the_databases_clock_when_it_steps(hours: int) -> None:
    slots = RateLimiter()
    began, at = datetime(2026, 1, 1, tzinfo=UTC), time.monotonic()
    slots.observe_clock(DatabaseClock(began, at))
    stepped = began + timedelta(hours=hours)
    slots.observe_clock(DatabaseClock(stepped, time.monotonic() - 0.01))  # a slower round trip than the first
    assert abs(slots.now() - stepped) < timedelta(seconds=1)


async def test_a_mailing_does_not_wait_the_hour_that_the_databases_clock_went_back(campaign: Campaign) -> None:
    await campaign.clients(400)
    async with campaign.working(gateway_rate=40.0):
        mailing_id = await campaign.mailing()

        async def calls(more: int) -> None:
            begun = await campaign.db.value("SELECT count(*) FROM attempt")
            while await campaign.db.value("SELECT count(*) FROM attempt") < begun + more:  # noqa: ASYNC110 - rows tell
                await asyncio.sleep(0.05)

        await calls(20)
        await campaign.db.run(
            # locks the two rows in the worker's order
            f"""WITH noted AS (UPDATE installation SET clock_at = clock_timestamp() + {HOUR} RETURNING true)
            UPDATE gateway SET next_slot_at = next_slot_at + {HOUR},
            paused_until = clock_timestamp() + {HOUR}, breaker_window_start = clock_timestamp() + {HOUR} FROM noted"""
        )
        await campaign.db.run(f"UPDATE message SET lease_until = lease_until + {HOUR} WHERE status = 'sending'")
        async with asyncio.timeout(60):
            await calls(20)
        assert (await campaign.api.patch("/gateway/", json={"rate": 0})).status_code == 200
        assert await campaign.finished(mailing_id) == {"planned": 400, "sent": 400}


async def test_what_the_old_time_had_put_ahead_is_put_back_by_as_much(db: Database) -> None:
    await db.add_mailing_of(["sending", "pending"])
    await db.run(f"UPDATE mailing SET plan_heartbeat_at = now() + {HOUR} - interval '9 s'")
    await db.run(f"UPDATE message SET lease_until = lease_until + {HOUR} WHERE status = 'sending'")
    due_at = await db.run("SELECT due_at, closes_at FROM message ORDER BY id")
    await db.run(
        f"""WITH noted AS (UPDATE installation SET clock_at = now() + {HOUR})
        UPDATE gateway SET paused_until = now() + {HOUR} + interval '20 s', breaker_reason_code = 'no_answer',
        breaker_opened_at = now() + {HOUR} - interval '8 s', breaker_next_probe_at = now() + {HOUR}"""
    )
    await db.run(f"INSERT INTO gateway_calls VALUES (now() + {HOUR}, 30, 30), (now() - interval '9 s', 30, 0)")
    await adjust_to_clock_steps(db.sessions)
    state = await db.run(
        """SELECT extract(epoch FROM paused_until - now()), extract(epoch FROM now() - breaker_opened_at),
        extract(epoch FROM breaker_next_probe_at - now()), extract(epoch FROM now() - clock_at)
        FROM gateway CROSS JOIN installation"""
    )
    assert [round(float(seconds), -1) for seconds in state[0]] == [20, 10, 0, 0]
    assert await db.value("SELECT sum(failed) FROM gateway_calls") == 0
    assert await db.value("SELECT lease_until < now() + interval '61 s' FROM message WHERE status = 'sending'")
    assert await db.value("SELECT plan_heartbeat_at < now() FROM mailing")
    assert await db.run("SELECT due_at, closes_at FROM message ORDER BY id") == due_at, "hours are the people's"


async def test_a_lease_that_was_taken_after_the_step_is_left_to_its_holder(db: Database) -> None:
    await db.add_mailing_of(["sending"])
    lease = await db.value("SELECT lease_until FROM message")
    await db.run(f"UPDATE installation SET clock_at = now() + {HOUR}")
    await adjust_to_clock_steps(db.sessions)
    assert await db.value("SELECT lease_until FROM message") == lease


@pytest.mark.parametrize(
    ("table", "lease"),
    [
        ("upload", "INSERT INTO upload (name, actor, size, status, lease_until) VALUES ('a', 'a', 1, 'importing', {})"),
        (
            "report",
            """INSERT INTO report (day, zone, starts, ends, due_at, lease_until)
            VALUES ('2026-01-01', 'UTC', '2026-01-01', '2026-01-02', now(), {})""",
        ),
    ],
)
@pytest.mark.parametrize("ahead", ["10 minutes", "70 minutes"], ids=["taken after the step", "taken before the step"])
async def test_a_lease_of_the_old_time_becomes_one_of_the_new(db: Database, table: str, lease: str, ahead: str) -> None:
    await db.run(lease.format(f"now() + interval '{ahead}'"))
    await db.run(f"UPDATE installation SET clock_at = now() + {HOUR}")
    await adjust_to_clock_steps(db.sessions)
    assert 0 < await db.value(f"SELECT extract(epoch FROM lease_until - now()) FROM {table}") < 601


async def test_nothing_is_put_back_while_the_clock_goes_on(db: Database) -> None:
    for _ in range(2):
        await adjust_to_clock_steps(db.sessions)
        await db.run("UPDATE gateway SET paused_until = now() + interval '10 min'")
    await adjust_to_clock_steps(db.sessions)
    assert await db.value("SELECT paused_until > now() + interval '9 min' FROM gateway")


@pytest.mark.parametrize(
    ("ahead", "is_over"),
    [("paused_until", "paused_until <= now()"), ("breaker_next_probe_at", "breaker_next_probe_at <= now()")],
)
async def test_what_lies_further_ahead_than_anything_puts_it_holds_back_nobody(
    db: Database, ahead: str, is_over: str
) -> None:
    await db.run(
        "UPDATE gateway SET breaker_opened_at = now(), breaker_next_probe_at = now(), breaker_reason_code = 'html'"
    )
    await db.run(f"UPDATE gateway SET {ahead} = now() + {HOUR}")
    await adjust_to_clock_steps(db.sessions)
    assert await db.value(f"SELECT {is_over} FROM gateway")

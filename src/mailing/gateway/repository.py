"""The row of `gateway`: the state that all workers share. Each statement commits by itself."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.rows import one_as
from mailing.gateway.circuit_breaker import MAX_PROBE_INTERVAL_S, MIN_CALLS, WINDOW_S
from mailing.gateway.outcome import RETRY_AFTER_CAP_S
from mailing.gateway.rate_limiter import SLACK_S
from mailing.gateway.row import ONLY_ROW
from mailing.reasons.codes import Fact, Reason, stored_reason
from mailing.restore.repository import RESTORED, VERDICTS

MIN_STEP_S = 1.0  # a smaller step back is ignored: what waits by the clock waits that much longer


# Condition on the row `w`, for the claim, the recheck before each call, and the sweep: no stop, no pause that the
# gateway asked for, no restored database. The breaker is checked beside it, because it lets probes through.
MAY_CALL = f"w.stopped_at IS NULL AND w.paused_until <= now() AND NOT {RESTORED}"


class GatewayState(msgspec.Struct, frozen=True):
    """`now` is database time of the reading. `rate` is in calls per second, 0 without a limit.

    `restored_because`: what processes say of the database (`restore.witness.FailoverVerdict`).
    """

    now: datetime
    rate: float
    paused_until: datetime | None
    breaker_opened_at: datetime | None
    breaker_reason_code: str | None
    breaker_reason_params: Mapping[str, Fact] | None
    breaker_next_probe_at: datetime | None
    stopped_at: datetime | None
    stopped_by: str | None
    restored: bool
    restored_because: list[str]
    calls: int
    failed: int

    @property
    def breaker_reason(self) -> Reason | None:
        return stored_reason(self.breaker_reason_code, self.breaker_reason_params)


# Two rows by primary key at most, and up to seven buckets of 5 s.
_READ = text(f"""
    SELECT clock_timestamp() AS now, w.rate, CASE WHEN w.paused_until > now() THEN w.paused_until END AS paused_until,
        w.breaker_opened_at, w.breaker_reason_code, w.breaker_reason_params, w.breaker_next_probe_at,
        w.stopped_at, w.stopped_by,
        {RESTORED} AS restored, CASE WHEN {RESTORED} THEN {VERDICTS} ELSE '{{}}' END AS restored_because,
        coalesce(c.calls, 0) AS calls, coalesce(c.failed, 0) AS failed
    FROM gateway w, (SELECT sum(calls) AS calls, sum(failed) AS failed FROM gateway_calls
                     WHERE bucket_start > now() - interval '{WINDOW_S} s') c
    WHERE w.{ONLY_ROW}
""")  # noqa: S608 - composed from constants of this module


async def read(session: AsyncSession) -> GatewayState:
    return one_as(GatewayState, await session.execute(_READ))


class Rate(msgspec.Struct, frozen=True):
    """Messages per second, from the rate limit (`limit`), or without one from the last 30 s (`measured`)."""

    per_second: float
    source: Literal["limit", "measured"]


# One row by primary key, and the busiest of up to seven buckets of 5 s.
_RATE = text(f"""
    SELECT rate / (1 + {SLACK_S}) AS allowed, (SELECT max(calls) / 5.0 FROM gateway_calls
        WHERE bucket_start > now() - interval '{WINDOW_S} s' HAVING sum(calls) >= {MIN_CALLS}) AS measured
    FROM gateway WHERE {ONLY_ROW}
""")  # noqa: S608 - composed from constants of this module


async def read_rate(session: AsyncSession) -> Rate | None:
    """Return None without a limit and with fewer than MIN_CALLS calls in the last WINDOW_S."""
    row = (await session.execute(_RATE)).one()
    if row.allowed:
        return Rate(row.allowed, "limit")
    return Rate(float(row.measured), "measured") if row.measured else None


# `clock_at` is the newest time at which `record_clock` wrote the row.
_AHEAD = text("SELECT CAST(extract(epoch FROM clock_at - clock_timestamp()) AS float) FROM installation FOR UPDATE")
# A time further ahead than the gateway's cap or the longest probe interval was written by a wrong clock, or by hand.
_RECORD_CLOCK = text(f"""
    WITH noted AS (
        UPDATE installation SET clock_at = clock_timestamp()
    )
    UPDATE gateway w SET
        paused_until = CASE WHEN w.paused_until - b.back > now() + interval '{RETRY_AFTER_CAP_S} s' THEN now()
            ELSE w.paused_until - b.back END,
        breaker_next_probe_at = CASE
            WHEN w.breaker_next_probe_at - b.back > now() + interval '{MAX_PROBE_INTERVAL_S} s' THEN now()
            ELSE w.breaker_next_probe_at - b.back END,
        breaker_opened_at = CASE WHEN w.breaker_opened_at IS NOT NULL THEN least(w.breaker_opened_at - b.back,
            now()) END,
        breaker_window_start = least(w.breaker_window_start - b.back, now())
    FROM (SELECT make_interval(secs => :back_s) AS back) b
""")  # noqa: S608 - composed from constants
_DELETE_FUTURE_CALLS = text("DELETE FROM gateway_calls WHERE bucket_start > now()")


async def record_clock(session: AsyncSession) -> float:
    """Return how many seconds the database's clock went back since the last call; 0: it did not.

    Call every few seconds. Times of the gateway's row that lie ahead by the old clock are moved back by as much.
    """
    ahead_s: float = (await session.execute(_AHEAD)).scalar_one()
    back_s = ahead_s if ahead_s > MIN_STEP_S else 0.0
    await session.execute(_RECORD_CLOCK, {"back_s": back_s})
    if back_s:
        await session.execute(_DELETE_FUTURE_CALLS)
    return back_s


_CONFIGURE = text(f"""
    WITH configured AS (
        UPDATE gateway SET rate = :rate, settings_rate = :rate WHERE {ONLY_ROW} AND settings_rate <> :rate
        RETURNING rate
    )
    INSERT INTO event (kind, actor, detail)
    SELECT 'gateway.rate_changed', 'MAILING_GATEWAY_RATE', jsonb_build_object('rate', rate) FROM configured
""")  # noqa: S608 - a constant


async def configure(session: AsyncSession, rate: float) -> None:
    """Apply the settings' rate if it has changed since the last start; else a rate set by the API stays."""
    await session.execute(_CONFIGURE, {"rate": rate})

"""What all workers share towards the gateway: the one row of `gateway`, and who may make the next calls.

Each statement stands alone and commits by itself, so that a worker frozen between two of them holds nothing back.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Literal

import msgspec
from sqlalchemy import CursorResult, TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.db import Sessions
from mailing.events import WORKER
from mailing.gateway.outcome import RETRY_AFTER_CAP_S

LEAST_CALLS = 20  # fewer say nothing about the gateway
COUNTED_S = 30
FIRST_PROBE_S = 5
LONGEST_PROBE_S = 60
HORIZON_S = 1.0  # no slot further ahead is given away: a lower rate is kept as soon as that
SLACK_S = 0.05  # a call may begin this much beside its slot, and any second still holds no more than the rate
SHARE_S = 0.2  # of a second's slots for one worker at a time
STEP_S = 1.0  # a clock that goes back by less is not worth a word: what waits by it waits that much longer


# Of the row `w`, asked by the claim, by the look before each call and by the sweep: no stop, no pause that the gateway
# asked for, no restored database. The breaker is asked beside it, because it lets probes through.
MAY_CALL = "w.stopped_at IS NULL AND w.home = database_home() AND w.throttled_until <= now()"


class State(msgspec.Struct, frozen=True):
    """`now` is the database's clock while it answered. `rate` is in calls per second, 0 without a limit."""

    now: datetime
    rate: float
    throttled_until: datetime | None
    open_since: datetime | None
    open_reason: str | None
    next_probe_at: datetime | None
    stopped_at: datetime | None
    stopped_by: str | None
    restored: bool
    calls: int
    failed: int


class Granted(msgspec.Struct, frozen=True):
    """`count` slots, `spacing_s` apart, the last one that long before `until`; `now` as in State."""

    now: datetime
    until: datetime
    spacing_s: float
    count: int


@asynccontextmanager
async def alone(sessions: Sessions) -> AsyncIterator[AsyncSession]:
    """A session whose statements commit one by one."""
    async with sessions() as session:
        await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        yield session


# Two rows by primary key at most, and up to seven periods.
_READ = text(f"""
    SELECT clock_timestamp(), w.rate, CASE WHEN w.throttled_until > now() THEN w.throttled_until END,
        w.open_since, w.open_reason, w.next_probe_at, w.stopped_at, w.stopped_by, w.home <> database_home(),
        coalesce(c.calls, 0), coalesce(c.failed, 0)
    FROM gateway w, (SELECT sum(calls) AS calls, sum(failed) AS failed FROM gateway_calls
                     WHERE period > now() - interval '{COUNTED_S} s') c
""")  # noqa: S608 - composed from constants of this module


async def read(session: AsyncSession) -> State:
    return State(*(await session.execute(_READ)).one())


class Pace(msgspec.Struct, frozen=True):
    """Calls per second, all workers together: as the limit allows, or as the busiest of the newest periods had them."""

    per_second: float
    source: Literal["limit", "measured"]


# One row by primary key, and up to seven periods of 5 s.
_PACE = text(f"""
    SELECT rate / (1 + {SLACK_S}), (SELECT max(calls) / 5.0 FROM gateway_calls
        WHERE period > now() - interval '{COUNTED_S} s' HAVING sum(calls) >= {LEAST_CALLS})
    FROM gateway
""")  # noqa: S608 - composed from constants of this module


async def read_pace(session: AsyncSession) -> Pace | None:
    """None: there is no limit, and hardly anything was sent just now."""
    allowed, measured = (await session.execute(_PACE)).one()
    if allowed:
        return Pace(allowed, "limit")
    return Pace(float(measured), "measured") if measured else None


# The breaker opens when more than half of the newest calls failed: of the last 5 s, 10 s … or 30 s, with 20 calls or
# more. So an outage after a busy time is noticed within 5 s, not when it outweighs the good half minute before it.
_REPORT = text(f"""
    WITH counted AS (
        INSERT INTO gateway_calls AS c (period, calls, failed)
        SELECT date_bin('5 s', now(), 'epoch'), CAST(:calls AS int), CAST(:failed AS int) WHERE :calls > 0
        ON CONFLICT (period) DO UPDATE SET calls = c.calls + excluded.calls, failed = c.failed + excluded.failed
    ), newest AS (
        SELECT sum(calls) OVER upto AS calls, sum(failed) OVER upto AS failed
        FROM (SELECT c.period, c.calls, c.failed FROM gateway_calls c JOIN gateway w ON c.period >= w.counted_from
              WHERE c.period > now() - interval '{COUNTED_S} s'
              UNION ALL SELECT now(), CAST(:calls AS int), CAST(:failed AS int)) AS known
        WINDOW upto AS (ORDER BY period DESC)
    ), verdict AS (
        SELECT CASE WHEN :misconfigured THEN CAST(:reason AS text)
            WHEN bool_or(calls >= {LEAST_CALLS} AND 2 * failed > calls) THEN 'most calls fail: ' || :reason
            END AS reason
        FROM newest
    ), shared AS (
        UPDATE gateway w SET
            throttled_until = greatest(w.throttled_until, now() + make_interval(secs => CAST(:pause_s AS float))),
            open_since = coalesce(w.open_since, CASE WHEN v.reason IS NOT NULL THEN now() END),
            open_reason = CASE WHEN :misconfigured OR w.open_since IS NULL THEN v.reason ELSE w.open_reason END,
            next_probe_at = coalesce(w.next_probe_at,
                CASE WHEN v.reason IS NOT NULL THEN now() + interval '{FIRST_PROBE_S} s' END)
        FROM verdict v WHERE :pause_s > 0 OR :misconfigured OR w.open_since IS NULL AND v.reason IS NOT NULL
        RETURNING w.open_since, w.open_reason
    )
    INSERT INTO event (kind, actor, detail)
    SELECT 'gateway.breaker_opened', '{WORKER}', jsonb_build_object('reason', open_reason)
    FROM shared WHERE open_since = now()
""")  # noqa: S608 - composed from constants of this module


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker's calls told about the gateway. `reason` is the newest failure's.

    `misconfigured` opens the breaker at once; `pause_s` is what the gateway asked for.
    """

    calls: int = 0
    failed: int = 0
    reason: str = ""
    misconfigured: bool = False
    pause_s: float = 0.0


async def report(session: AsyncSession, seen: Seen) -> None:
    await session.execute(_REPORT, msgspec.structs.asdict(seen))


_FORGET = text(f"DELETE FROM gateway_calls WHERE period < now() - interval '{2 * COUNTED_S} s'")  # noqa: S608 - a constant of this module


async def forget_old_calls(session: AsyncSession) -> None:
    await session.execute(_FORGET)


# One worker gets it, whoever asks first. The longer the breaker is open, the rarer: after a minute every 7.5 s; a probe
# that fails by chance, or dies with its worker, costs no more than that.
_TAKE_PROBE = text(f"""
    UPDATE gateway SET next_probe_at = now() + make_interval(secs =>
        least({LONGEST_PROBE_S}, greatest({FIRST_PROBE_S}, extract(epoch FROM now() - open_since) / 8)))
    WHERE open_since IS NOT NULL AND next_probe_at <= now()
    RETURNING true
""")  # noqa: S608 - composed from constants of this module


async def take_probe(session: AsyncSession) -> bool:
    return (await session.execute(_TAKE_PROBE)).first() is not None


async def give_probe_back(session: AsyncSession) -> None:
    """It found nothing to send."""
    await session.execute(text("UPDATE gateway SET next_probe_at = now() WHERE open_since IS NOT NULL"))


_CLOSE = text(f"""
    WITH closed AS (
        UPDATE gateway SET open_since = NULL, open_reason = NULL, next_probe_at = NULL, counted_from = now()
        WHERE open_since IS NOT NULL RETURNING true
    )
    INSERT INTO event (kind, actor) SELECT 'gateway.breaker_closed', '{WORKER}' FROM closed
""")  # noqa: S608 - composed from constants


async def close_breaker(session: AsyncSession) -> None:
    await session.execute(_CLOSE)


# The last slot that may have been given away at this rate. One twice as far ahead is of a clock that went back since,
# or of a lower rate; what other workers still hold lies before this.
_LAST_SLOT = f"make_interval(secs => {HORIZON_S} + (1 + {SLACK_S}) * greatest({SHARE_S}, 1 / nullif(w.rate, 0)))"
_ASTRAY = f"w.next_slot_at > clock_timestamp() + 2 * {_LAST_SLOT}"

# As many slots as the rate has in SHARE_S, at least one. Any `rate` + 1 slots in a row span 1 s + SLACK_S.
_TAKE_SLOTS = text(f"""
    UPDATE gateway w SET next_slot_at = CASE WHEN {_ASTRAY} THEN clock_timestamp() + {_LAST_SLOT}
            ELSE greatest(w.next_slot_at, clock_timestamp()) END
        + make_interval(secs => (1 + {SLACK_S}) / w.rate
            * least(CAST(:most AS int), greatest(1, floor(w.rate * {SHARE_S}))))
    WHERE w.rate > 0 AND (w.next_slot_at < clock_timestamp() + interval '{HORIZON_S} s' OR {_ASTRAY})
    RETURNING clock_timestamp(), w.next_slot_at, (1 + {SLACK_S}) / w.rate,
        CAST(least(CAST(:most AS int), greatest(1, floor(w.rate * {SHARE_S}))) AS int)
""")  # noqa: S608 - composed from constants of this module


async def take_slots(session: AsyncSession, most: int) -> Granted | None:
    """None: all slots of the next HORIZON_S are given away, or there is no limit any more."""
    row = (await session.execute(_TAKE_SLOTS, {"most": most})).first()
    return Granted(*row) if row else None


# `clock_at` is the newest time that the row was written at by `note_clock`.
_BACK = text("SELECT CAST(extract(epoch FROM clock_at - clock_timestamp()) AS float) FROM gateway FOR UPDATE")
# Nothing lies further ahead than what puts it there allows: what does, somebody's clock or hand has put there.
_NOTE_CLOCK = text(f"""
    UPDATE gateway w SET clock_at = clock_timestamp(),
        throttled_until = CASE WHEN w.throttled_until - b.back > now() + interval '{RETRY_AFTER_CAP_S} s' THEN now()
            ELSE w.throttled_until - b.back END,
        next_probe_at = CASE WHEN w.next_probe_at - b.back > now() + interval '{LONGEST_PROBE_S} s' THEN now()
            ELSE w.next_probe_at - b.back END,
        open_since = CASE WHEN w.open_since IS NOT NULL THEN least(w.open_since - b.back, now()) END,
        counted_from = least(w.counted_from - b.back, now())
    FROM (SELECT make_interval(secs => :back_s) AS back) b
""")  # noqa: S608 - composed from constants
_FORGET_COMING = text("DELETE FROM gateway_calls WHERE period > now()")


async def note_clock(session: AsyncSession) -> float:
    """How many seconds the database's clock went back since the last time; 0: it did not. To be called every few
    seconds; what the old time had put ahead of this row is put back by as much.
    """
    ahead_s: float = (await session.execute(_BACK)).scalar_one()
    back_s = ahead_s if ahead_s > STEP_S else 0.0
    await session.execute(_NOTE_CLOCK, {"back_s": back_s})
    if back_s:
        await session.execute(_FORGET_COMING)
    return back_s


_CONFIGURE = text("""
    WITH configured AS (
        UPDATE gateway SET rate = :rate, configured_rate = :rate WHERE configured_rate <> :rate RETURNING rate
    )
    INSERT INTO event (kind, actor, detail)
    SELECT 'gateway.rate_changed', 'MAILING_GATEWAY_RATE', jsonb_build_object('rate', rate) FROM configured
""")


async def configure(session: AsyncSession, rate: float) -> None:
    """The settings' rate, unless it is what they said before: then a rate set by the API stays."""
    await session.execute(_CONFIGURE, {"rate": rate})


# What a person may change; each returns whether it changed anything.
_SET_RATE = text("UPDATE gateway SET rate = :rate WHERE rate <> :rate")
_STOP = text("UPDATE gateway SET stopped_at = now(), stopped_by = :by WHERE stopped_at IS NULL")
_START = text("UPDATE gateway SET stopped_at = NULL, stopped_by = NULL WHERE stopped_at IS NOT NULL")
_PROBE_NOW = text("""
    UPDATE gateway SET next_probe_at = CASE WHEN open_since IS NOT NULL THEN now() END, throttled_until = now()
    WHERE open_since IS NOT NULL OR throttled_until > now()
""")


async def set_rate(session: AsyncSession, rate: float) -> bool:
    return await _changed(session, _SET_RATE, rate=rate)


async def stop(session: AsyncSession, *, by: str) -> bool:
    return await _changed(session, _STOP, by=by)


async def start(session: AsyncSession) -> bool:
    return await _changed(session, _START)


async def probe_now(session: AsyncSession) -> bool:
    """A pause that the gateway asked for is over, too."""
    return await _changed(session, _PROBE_NOW)


async def _changed(session: AsyncSession, statement: TextClause, **values: object) -> bool:
    result = await session.execute(statement, values)
    return isinstance(result, CursorResult) and result.rowcount > 0

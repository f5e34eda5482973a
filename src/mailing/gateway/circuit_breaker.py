"""The circuit breaker that all workers share: count calls, open, probe, close."""

import json

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.events import WORKER
from mailing.gateway.row import ONLY_ROW
from mailing.reasons.codes import Reason, ReasonCode

MIN_CALLS = 20  # fewer calls are not significant
WINDOW_S = 30
MIN_PROBE_INTERVAL_S = 5
MAX_PROBE_INTERVAL_S = 60


# The breaker opens when more than half of the newest calls failed: of the last 5 s, 10 s … or 30 s, with 20 calls or
# more. So an outage after a busy time is noticed within 5 s, and need not outweigh the good half minute before it.
# While it is open, a failed probe renews the reason: what an operator has corrected is not the reason any more.
_REPORT = text(f"""
    WITH counted AS (
        INSERT INTO gateway_calls AS c (bucket_start, calls, failed)
        SELECT date_bin('5 s', now(), 'epoch'), CAST(:calls AS int), CAST(:failed AS int) WHERE :calls > 0
        ON CONFLICT (bucket_start) DO UPDATE SET calls = c.calls + excluded.calls, failed = c.failed + excluded.failed
    ), newest AS (
        SELECT sum(calls) OVER upto AS calls, sum(failed) OVER upto AS failed
        FROM (SELECT c.bucket_start, c.calls, c.failed FROM gateway_calls c
              JOIN gateway w ON w.{ONLY_ROW} AND c.bucket_start >= w.breaker_window_start
              WHERE c.bucket_start > now() - interval '{WINDOW_S} s'
              UNION ALL SELECT now(), CAST(:calls AS int), CAST(:failed AS int)) AS known
        WINDOW upto AS (ORDER BY bucket_start DESC)
    ), verdict AS (
        SELECT CASE WHEN :misconfigured THEN CAST(:code AS text)
            WHEN CASE WHEN w.breaker_opened_at IS NULL THEN bool_or(calls >= {MIN_CALLS} AND 2 * failed > calls)
                ELSE :failed > 0 END THEN '{ReasonCode.most_calls_fail}' END AS code,
            CAST(:params AS jsonb) || CASE WHEN :misconfigured THEN '{{}}'
                ELSE jsonb_strip_nulls(jsonb_build_object('last', CAST(:code AS text))) END AS params
        FROM newest JOIN gateway w ON w.{ONLY_ROW} GROUP BY w.name
    ), shared AS (
        UPDATE gateway w SET
            paused_until = greatest(w.paused_until, now() + make_interval(secs => CAST(:pause_s AS float))),
            breaker_opened_at = coalesce(w.breaker_opened_at, CASE WHEN v.code IS NOT NULL THEN now() END),
            breaker_reason_code = coalesce(v.code, w.breaker_reason_code),
            breaker_reason_params = CASE WHEN v.code IS NULL THEN w.breaker_reason_params ELSE v.params END,
            breaker_next_probe_at = coalesce(w.breaker_next_probe_at,
                CASE WHEN v.code IS NOT NULL THEN now() + interval '{MIN_PROBE_INTERVAL_S} s' END)
        FROM verdict v
        WHERE w.{ONLY_ROW} AND (:pause_s > 0 OR v.code IS NOT NULL)
        RETURNING w.breaker_opened_at, w.breaker_reason_code AS code, w.breaker_reason_params AS params
    )
    INSERT INTO event (kind, actor, detail)
    SELECT 'gateway.breaker_opened', '{WORKER}', jsonb_build_object('reason_code', code, 'reason_params', params)
    FROM shared WHERE breaker_opened_at = now()
""")  # noqa: S608 - composed from constants of this module


class CallStats(msgspec.Struct, frozen=True, kw_only=True):
    """The results of one worker's calls, as far as they tell about the gateway. `reason` is the newest failure's.

    `misconfigured` opens the breaker at once. `pause_s` is the pause that the gateway asked for.
    """

    calls: int = 0
    failed: int = 0
    reason: Reason | None = None
    misconfigured: bool = False
    pause_s: float = 0.0


async def report(session: AsyncSession, stats: CallStats) -> None:
    values = msgspec.structs.asdict(stats)
    reason = values.pop("reason")
    params = json.dumps(reason.params if reason else {})
    await session.execute(_REPORT, values | {"code": reason.code.value if reason else None, "params": params})


_DELETE_OLD_CALLS = text(f"""
    DELETE FROM gateway_calls WHERE bucket_start < now() - interval '{2 * WINDOW_S} s'
""")  # noqa: S608 - a constant of this module


async def delete_old_calls(session: AsyncSession) -> None:
    await session.execute(_DELETE_OLD_CALLS)


# The first worker that asks gets the probe. The longer the breaker is open, the rarer probes are: every 7.5 s after
# a minute. A probe that fails by chance, or dies with its worker, costs no more than that.
_TAKE_PROBE = text(f"""
    UPDATE gateway SET breaker_next_probe_at = now() + make_interval(secs => least({MAX_PROBE_INTERVAL_S},
        greatest({MIN_PROBE_INTERVAL_S}, extract(epoch FROM now() - breaker_opened_at) / 8)))
    WHERE {ONLY_ROW} AND breaker_opened_at IS NOT NULL AND breaker_next_probe_at <= now()
    RETURNING true
""")  # noqa: S608 - composed from constants of this module


async def take_probe(session: AsyncSession) -> bool:
    return (await session.execute(_TAKE_PROBE)).first() is not None


_RETURN_PROBE = text(f"""
    UPDATE gateway SET breaker_next_probe_at = now() WHERE {ONLY_ROW} AND breaker_opened_at IS NOT NULL
""")  # noqa: S608 - a constant


async def return_probe(session: AsyncSession) -> None:
    """Make the probe due again: the worker that took it found nothing to send."""
    await session.execute(_RETURN_PROBE)


_CLOSE = text(f"""
    WITH closed AS (
        UPDATE gateway SET
            breaker_opened_at = NULL, breaker_reason_code = NULL, breaker_reason_params = NULL,
            breaker_next_probe_at = NULL, breaker_window_start = now()
        WHERE {ONLY_ROW} AND breaker_opened_at IS NOT NULL RETURNING true
    )
    INSERT INTO event (kind, actor) SELECT 'gateway.breaker_closed', '{WORKER}' FROM closed
""")  # noqa: S608 - composed from constants


async def close_breaker(session: AsyncSession) -> None:
    await session.execute(_CLOSE)

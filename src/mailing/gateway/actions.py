"""Operators' actions on all sending: each is recorded as an event with its author, if it changes anything."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.rows import rows_affected
from mailing.events import record_event
from mailing.gateway.row import ONLY_ROW

_CHANGE_RATE = text(f"UPDATE gateway SET rate = :rate WHERE {ONLY_ROW} AND rate <> :rate")  # noqa: S608 - a constant


async def change_rate(session: AsyncSession, rate: float, *, by: str) -> None:
    """Change the rate limit; every worker keeps it within a second."""
    if await rows_affected(session, _CHANGE_RATE, rate=rate):
        await record_event(session, "gateway.rate_changed", by=by, rate=rate)


_STOP = text(f"""
    UPDATE gateway SET stopped_at = now(), stopped_by = :by WHERE {ONLY_ROW} AND stopped_at IS NULL
""")  # noqa: S608 - a constant


async def stop(session: AsyncSession, *, by: str) -> None:
    """Stop all sending: no call of any mailing begins more than a second later."""
    if await rows_affected(session, _STOP, by=by):
        await record_event(session, "gateway.stopped", by=by)


_START = text(f"""
    UPDATE gateway SET stopped_at = NULL, stopped_by = NULL WHERE {ONLY_ROW} AND stopped_at IS NOT NULL
""")  # noqa: S608 - a constant


async def start(session: AsyncSession, *, by: str) -> None:
    if await rows_affected(session, _START):
        await record_event(session, "gateway.started", by=by)


_PROBE = text(f"""
    UPDATE gateway SET
        breaker_next_probe_at = CASE WHEN breaker_opened_at IS NOT NULL THEN now() END, paused_until = now()
    WHERE {ONLY_ROW} AND (breaker_opened_at IS NOT NULL OR paused_until > now())
""")  # noqa: S608 - a constant


async def probe(session: AsyncSession, *, by: str) -> None:
    """Make the breaker's next probe due, and end a pause that the gateway asked for."""
    if await rows_affected(session, _PROBE):
        await record_event(session, "gateway.probed", by=by)

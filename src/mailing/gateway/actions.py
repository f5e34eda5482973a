"""Operators' actions on all sending: each is recorded as an event with its author."""

from sqlalchemy.ext.asyncio import AsyncSession

from mailing import events
from mailing.gateway import repository as repository_
from mailing.gateway.repository import probe_now, set_rate


async def change_rate(session: AsyncSession, rate: float, *, by: str) -> None:
    """Change the rate limit; every worker keeps it within a second."""
    if await set_rate(session, rate):
        await events.record_event(session, "gateway.rate_changed", by=by, rate=rate)


async def stop(session: AsyncSession, *, by: str) -> None:
    """Stop all sending: no call of any mailing begins more than a second later."""
    if await repository_.stop(session, by=by):
        await events.record_event(session, "gateway.stopped", by=by)


async def start(session: AsyncSession, *, by: str) -> None:
    """End the stop."""
    if await repository_.start(session):
        await events.record_event(session, "gateway.started", by=by)


async def probe(session: AsyncSession, *, by: str) -> None:
    """Make the breaker's next probe due, and end a pause that the gateway asked for."""
    if await probe_now(session):
        await events.record_event(session, "gateway.probed", by=by)

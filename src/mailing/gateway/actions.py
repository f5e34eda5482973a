"""What people do to the sending of all mailings: each act once, with an event that says who did it."""

from sqlalchemy.ext.asyncio import AsyncSession

from mailing import events
from mailing.gateway import repository as repository_
from mailing.gateway.repository import probe_now, set_rate


async def change_rate(session: AsyncSession, rate: float, *, by: str) -> None:
    """Every worker keeps it from a second later on."""
    if await set_rate(session, rate):
        await events.record_event(session, "gateway.rate_changed", by=by, rate=rate)


async def stop(session: AsyncSession, *, by: str) -> None:
    """No call of any mailing begins more than a second later."""
    if await repository_.stop(session, by=by):
        await events.record_event(session, "gateway.stopped", by=by)


async def start(session: AsyncSession, *, by: str) -> None:
    """Ends the stop."""
    if await repository_.start(session):
        await events.record_event(session, "gateway.started", by=by)


async def probe(session: AsyncSession, *, by: str) -> None:
    """The breaker's next probe is due, and a pause that the gateway asked for is over."""
    if await probe_now(session):
        await events.record_event(session, "gateway.probed", by=by)

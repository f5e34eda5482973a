"""Lanes: the send jobs of one mailing, each on a worker of its own."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from mailing.job_queue.enqueue import CONTINUED_PRIORITY, defer

MAX_LANES = 32


async def enqueue_lane(session: AsyncSession, mailing_id: int, lane: int = 0, *, at: datetime | None = None) -> None:
    """Enqueue behind the mailings that wait for their first turn."""
    await defer(session, "send_mailing", at=at, priority=CONTINUED_PRIORITY, mailing_id=mailing_id, lane=lane)

"""The database's clock went back: what its old time had put ahead is put back by as much, and sending goes on.

What people have written (start, end, hours) stays, and so do retries, which may be bound to a window.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.db import Sessions, transaction
from mailing.gateway import repository as gateway
from mailing.log import get

logger = get(__name__)

# Plans under way, leases of messages, of uploads and of reports: as many rows as workers are at, and those of open
# mailings. Indexes: message_leased, upload_open; reports are one a day.
_PUT_BACK = [
    text(f"UPDATE {table} SET {column} = {column} - make_interval(secs => :back_s) WHERE {rows}")  # noqa: S608 - below
    for table, column, rows in (
        ("mailing", "planning_at", "status IN ('scheduled', 'running', 'paused')"),
        ("message", "lease_until", "status = 'sending'"),
        ("upload", "lease_until", "status = 'importing'"),
        ("report", "lease_until", "sent_at IS NULL"),
    )
]


async def mind_clock(sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        back_s = await gateway.note_clock(session)
        if back_s:
            await _put_back(session, back_s)
    if back_s:
        logger.warning("the database's clock went back", by_s=round(back_s, 1))


async def _put_back(session: AsyncSession, back_s: float) -> None:
    for statement in _PUT_BACK:
        await session.execute(statement, {"back_s": back_s})

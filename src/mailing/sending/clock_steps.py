"""The database's clock went back: what its old time had put ahead is put back by as much, and sending goes on.

What people have written (start, end, hours) stays, and so do retries, which may be bound to a window. After a step of
less than MAX_LEASE_S leases stay, too: nobody can tell those of the old time from those of the new.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.engine import Sessions, transaction
from mailing.gateway.repository import note_clock
from mailing.observability.log import get

logger = get(__name__)

MAX_LEASE_S = 900  # nobody takes a longer one: what lies further ahead was taken by the old time

# Plans under way, leases of messages, of uploads and of reports: as many rows as workers are at, and those of open
# mailings. What was noted after the step, and before it was noticed, stays: its holder relies on it. Indexes:
# message_leased, upload_open; reports are one a day.
_PUT_BACK = [
    text(f"UPDATE {table} SET {column} = {column} - make_interval(secs => :back_s) WHERE {rows}")  # noqa: S608 - below
    for table, column, rows in (
        ("mailing", "plan_heartbeat_at", "status IN ('scheduled', 'running', 'paused') AND plan_heartbeat_at > now()"),
        ("message", "lease_until", f"status = 'sending' AND lease_until > now() + interval '{MAX_LEASE_S} s'"),
        ("upload", "lease_until", f"status = 'importing' AND lease_until > now() + interval '{MAX_LEASE_S} s'"),
        ("report", "lease_until", f"sent_at IS NULL AND lease_until > now() + interval '{MAX_LEASE_S} s'"),
    )
]


async def adjust_to_clock_steps(sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        back_s = await note_clock(session)
        if back_s:
            await _put_back(session, back_s)
    if back_s:
        logger.warning("the database's clock went back", by_s=round(back_s, 1))


async def _put_back(session: AsyncSession, back_s: float) -> None:
    for statement in _PUT_BACK:
        await session.execute(statement, {"back_s": back_s})

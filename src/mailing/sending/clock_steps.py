"""When the database's clock goes back, shift the times written by the old clock by as much, so that sending goes on.

Times that people have set (start, end, hours) stay, and so do retries, which may be bound to a window. After a step of
less than MAX_LEASE_S leases stay, too: those of the old time can't be told from those of the new.
"""

from sqlalchemy import text

from mailing.database.engine import Sessions, transaction
from mailing.gateway.repository import record_clock
from mailing.observability.log import get

logger = get(__name__)

MAX_LEASE_S = 900  # no lease is longer: one that ends later was written by the old clock

_AHEAD = f"lease_until > now() + interval '{MAX_LEASE_S} s'"
_LEASED = f"SELECT unnest(message_ids) FROM message_lease WHERE {_AHEAD}"  # noqa: S608 - composed from a constant

# Plans under way, leases of messages, uploads and reports: as many rows as workers hold, and those of open mailings.
# Rows written after the step but before it was noticed are not shifted, because their holders rely on them. The
# messages are those of all leases. Index: upload_open; there is one report a day.
_SHIFT_BACK = [
    text(f"UPDATE {table} SET {column} = {column} - make_interval(secs => :back_s) WHERE {rows}")  # noqa: S608 - below
    for table, column, rows in (
        ("mailing", "plan_heartbeat_at", "status IN ('scheduled', 'running', 'paused') AND plan_heartbeat_at > now()"),
        ("message", "lease_until", f"id = ANY(ARRAY({_LEASED})) AND status = 'sending' AND {_AHEAD}"),
        ("upload", "lease_until", f"status = 'importing' AND {_AHEAD}"),
        ("report", "lease_until", f"sent_at IS NULL AND {_AHEAD}"),
    )
]


async def adjust_to_clock_steps(sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        back_s = await record_clock(session)
        if back_s:
            for statement in _SHIFT_BACK:
                await session.execute(statement, {"back_s": back_s})
    if back_s:
        logger.warning("database clock stepped back", by_s=round(back_s, 1))

"""Redact mailings that closed MAILING_RETENTION_DAYS ago: their texts, phones and gateway answers; delete old events.

Each slice is a transaction. The tables show what is left to do: after an interruption the next run starts again and
skips what is done. Messages and counters stay (decision 21).
"""

from msgspec.structs import replace

from mailing.database.engine import Sessions, in_transaction, transaction
from mailing.messages.after_restore import MessageSlice
from mailing.messages.redaction import FINAL, redact_slice
from mailing.observability import log
from mailing.privacy.repository import delete_events, next_to_redact, redact_mailing, try_lock
from mailing.settings import Settings

SLICE = 5000

logger = log.get(__name__)


async def redact_old(sessions: Sessions, settings: Settings) -> None:
    """Redact all mailings that are due; 0 days keep everything. A second worker leaves the work to the first."""
    while settings.retention_days:
        async with transaction(sessions) as session:
            mailing_id = await next_to_redact(session, settings.retention_days) if await try_lock(session) else None
        if mailing_id is None or not await _redact(sessions, mailing_id):
            return
        logger.info("mailing redacted", mailing_id=mailing_id)


async def delete_old_events(sessions: Sessions, settings: Settings) -> None:
    """Delete all events that are due; 0 days keep everything. Concurrent workers do no harm."""
    after: int | None = 0 if settings.retention_days else None
    while after is not None:
        after = await in_transaction(sessions, delete_events, settings.retention_days, after=after, count=SLICE)


async def _redact(sessions: Sessions, mailing_id: int) -> bool:
    """Redact a mailing. False: another worker has the lock."""
    parts = [MessageSlice(mailing_id, status, count=SLICE) for status in FINAL]
    while parts:
        async with transaction(sessions) as session:
            if not await try_lock(session):
                return False
            last = await redact_slice(session, parts[0])
        parts[:1] = [replace(parts[0], after=last)] if last else []
    await in_transaction(sessions, redact_mailing, mailing_id)
    return True

"""Phones and words of mailings that closed MAILING_RETENTION_DAYS ago are blanked, what the gateway answered is
deleted, and events of that age are forgotten. A slice a transaction.

What is left to do stands in the tables: after an interruption the next run begins anew, and reads over what is done
already. Messages and counters stay (decision 21).
"""

from msgspec.structs import replace

from mailing.database.engine import Sessions, transaction
from mailing.messages.after_restore import MessageSlice
from mailing.messages.redaction import FINAL, redact_slice
from mailing.observability import log
from mailing.privacy.repository import delete_events, next_to_redact, redact_mailing, try_lock
from mailing.settings import Settings

SLICE = 5000

logger = log.get(__name__)


async def redact_old(sessions: Sessions, settings: Settings) -> None:
    """Everything that is due; 0 days keep everything. A second worker at it leaves it to the first."""
    while settings.retention_days:
        async with transaction(sessions) as session:
            mailing_id = await next_to_redact(session, settings.retention_days) if await try_lock(session) else None
        if mailing_id is None or not await _blank(sessions, mailing_id):
            return
        logger.info("phones and text forgotten", mailing_id=mailing_id)


async def delete_old_events(sessions: Sessions, settings: Settings) -> None:
    """Everything that is due; 0 days keep everything. What another worker forgets meanwhile is gone all the same."""
    after: int | None = 0 if settings.retention_days else None
    while after is not None:
        async with transaction(sessions) as session:
            after = await delete_events(session, settings.retention_days, after=after, count=SLICE)


async def _blank(sessions: Sessions, mailing_id: int) -> bool:
    """False: another worker is at it."""
    parts = [MessageSlice(mailing_id, status, count=SLICE) for status in FINAL]
    while parts:
        async with transaction(sessions) as session:
            if not await try_lock(session):
                return False
            last = await redact_slice(session, parts[0])
        parts[:1] = [replace(parts[0], after=last)] if last else []
    async with transaction(sessions) as session:
        await redact_mailing(session, mailing_id)
    return True

"""Phones and words of mailings that closed MAILING_RETENTION_DAYS ago are blanked, and what the gateway answered is
deleted, a slice a transaction.

What is left to do stands in the tables: after an interruption the next run begins the mailing anew, and reads over what
is blank already. Messages and counters stay (decision 21).
"""

from msgspec.structs import replace

from mailing import log
from mailing.db import Sessions, transaction
from mailing.messages.blanking import FINAL, blank_slice
from mailing.messages.restored import Slice
from mailing.privacy.repository import alone, blank_words, next_to_blank
from mailing.settings import Settings

SLICE = 5000

logger = log.get(__name__)


async def blank_old(sessions: Sessions, settings: Settings) -> None:
    """Everything that is due; 0 days keep everything. A second worker at it leaves it to the first."""
    while settings.retention_days:
        async with transaction(sessions) as session:
            mailing_id = await next_to_blank(session, settings.retention_days) if await alone(session) else None
        if mailing_id is None or not await _blank(sessions, mailing_id):
            return
        logger.info("phones and text forgotten", mailing_id=mailing_id)


async def _blank(sessions: Sessions, mailing_id: int) -> bool:
    """False: another worker is at it."""
    parts = [Slice(mailing_id, status, count=SLICE) for status in FINAL]
    while parts:
        async with transaction(sessions) as session:
            if not await alone(session):
                return False
            last = await blank_slice(session, parts[0])
        parts[:1] = [replace(parts[0], after=last)] if last else []
    async with transaction(sessions) as session:
        await blank_words(session, mailing_id)
    return True

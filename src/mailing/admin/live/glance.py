"""Health at a glance: everything that sending needs, and the mailings under way."""

import time
from datetime import datetime

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.backlog import Backlog, backlog
from mailing.db import Sessions, transaction
from mailing.gateway import repository as gateway
from mailing.gateway.repository import State
from mailing.messages.calls import RecentCalls, recent_calls
from mailing.reports.outlook import Outlook, outlook
from mailing.settings import Settings
from mailing.statistics.overview import Overview, open_mailings

READ_FOR_S = 1.5


class Glance(Struct, frozen=True):
    """`database_ms` is what a question to the database took."""

    now: datetime
    database_ms: int
    gateway: State
    calls: RecentCalls
    backlog: Backlog
    report: Outlook
    mailings: list[Overview]


async def glance(sessions: Sessions, settings: Settings) -> Glance:
    async with transaction(sessions) as session:
        state, took_ms = await _asked(session)
        return Glance(
            now=state.now,
            database_ms=took_ms,
            gateway=state,
            calls=await recent_calls(session),
            backlog=await backlog(session),
            report=await outlook(session, settings, now=state.now),
            mailings=await open_mailings(session),
        )


async def _asked(session: AsyncSession) -> tuple[State, int]:
    began = time.monotonic()
    state = await gateway.read(session)
    return state, round(1000 * (time.monotonic() - began))

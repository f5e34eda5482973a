"""The newest report that went out, and the next one."""

from datetime import date, datetime

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.reports import planning
from mailing.reports.schedule import due_at, oldest_wanted
from mailing.settings import Settings, report_clock
from mailing.timezones import zone_named

# The primary key, backwards: the newest rows.
_LAST = text("SELECT day, sent_at FROM report WHERE sent_at IS NOT NULL ORDER BY day DESC LIMIT 1")

# At most CATCH_UP rows of the primary key.
_MISSING = text("""
    SELECT day, due_at, attempts, last_error FROM report WHERE day >= :oldest AND sent_at IS NULL ORDER BY day LIMIT 1
""")


_FAILING = text("""
    SELECT day, due_at, attempts, last_error FROM report
    WHERE day >= :oldest AND sent_at IS NULL AND attempts > 0 AND (lease_until IS NULL OR attempts > 1) ORDER BY day
""")


class Reported(Struct, frozen=True):
    day: date
    sent_at: datetime


class Coming(Struct, frozen=True):
    """`last_error` is what its newest try ran into, if it was tried."""

    day: date
    due_at: datetime
    attempts: int = 0
    last_error: str | None = None


class Outlook(Struct, frozen=True):
    """`coming` is None where nobody is to get a report."""

    last: Reported | None
    coming: Coming | None


async def outlook(session: AsyncSession, settings: Settings, *, now: datetime) -> Outlook:
    last = (await session.execute(_LAST)).one_or_none()
    coming = await _coming(session, settings, now) if settings.report_to else None
    return Outlook(Reported(*last) if last else None, coming)


async def _coming(session: AsyncSession, settings: Settings, now: datetime) -> Coming:
    """The oldest that is missing, or that of the day that is not over."""
    zone = zone_named(settings.report_timezone)
    missing = (await session.execute(_MISSING, {"oldest": oldest_wanted(now, zone)})).one_or_none()
    if missing:
        return Coming(*missing)
    running = (await planning.calendar(session, settings, now=now)).running()
    return Coming(running.date, due_at(running.ends, zone, report_clock(settings)))


async def failing_reports(session: AsyncSession, settings: Settings, *, now: datetime) -> list[Coming]:
    """Those that were tried in vain and will be tried again, the oldest first."""
    oldest = oldest_wanted(now, zone_named(settings.report_timezone))
    return [Coming(*row) for row in await session.execute(_FAILING, {"oldest": oldest})]

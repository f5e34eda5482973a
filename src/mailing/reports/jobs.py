"""Sending what is missing: exactly one report for each day.

The database says which days are missing. A day is claimed, and the claim committed, before its figures are read and the
mail server is spoken to; while that lasts no transaction is open and no connection is held. What came of it is recorded
afterwards, whatever it was: a day that can't be counted or rendered has failed as one that was not accepted has, and
each waits by itself for its next try.

One repeat can't be excluded by any sender: the mail server took the mail, and the process died, or lost the database
for minutes, before that was recorded. When the lease is over the day is sent again, with the same Message-ID.
"""

import asyncio
import traceback
from datetime import datetime, timedelta
from pathlib import Path
from typing import assert_never

import asyncpg
from msgspec import Struct
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession

from mailing import failpoints
from mailing.database.engine import Sessions, transaction
from mailing.observability import log
from mailing.reports import planning, repository, smtp
from mailing.reports.render import Rendered, render
from mailing.reports.repository import Claim, Failure, Lease
from mailing.reports.schedule import oldest_wanted
from mailing.reports.smtp import Accepted, Mail, Outcome, PartlyAccepted, PermanentFailure, TemporaryFailure
from mailing.reports.translations import LANGUAGES
from mailing.restore.repository import is_restored
from mailing.settings import Settings
from mailing.timezones import zone_named

LEASE = timedelta(minutes=6)
ATTEMPT_TIMEOUT_S = 300.0
"""From before the claim; shorter than the lease, so a worker that was frozen gives up before another one begins."""
RECORD_PAUSE_S = 1.0
FIRST_PAUSE = timedelta(minutes=1)
MAX_PAUSE = timedelta(hours=1)
MAX_PAUSE_AFTER = 7
"""Tries."""
PACKAGE_DIR = str(Path(__file__).parent)

logger = log.get(__name__)


class Attempted(Struct, frozen=True):
    claim: Claim
    outcome: Outcome


async def send_missing(sessions: Sessions, settings: Settings) -> None:
    """Call it every minute: it tries what is due, the oldest first.

    Without recipients it claims nothing; nor from a restored database, which doesn't know the days reported since. The
    clock is the database's.
    """
    async with transaction(sessions) as session:
        if await is_restored(session):
            return
    while await send_next(sessions, settings, now=await read_clock(sessions)):
        pass


async def read_clock(sessions: Sessions) -> datetime:
    """What time it is, the same for every machine."""
    async with transaction(sessions) as session:
        return await repository.clock(session)


async def send_next(sessions: Sessions, settings: Settings, *, now: datetime) -> Attempted | None:
    """Tries the oldest report that is due at `now`; None when there is none.

    The first report ever is about the day before the service was first seen with a recipient: it shows that mail works.
    """
    if not smtp.recipients_of(settings):
        return None
    begun, zone = loop_time(), zone_named(settings.report_timezone)
    async with transaction(sessions) as session:
        await planning.plan(session, settings, now=now)
        oldest = oldest_wanted(now, zone)
        claim = await repository.claim_oldest(session, oldest=oldest, zone=zone, lease=lease_from(now))
    return await send_claimed(sessions, settings, claim, now=now, begun=begun) if claim else None


async def send_claimed(
    sessions: Sessions, settings: Settings, claim: Claim, *, now: datetime, begun: float
) -> Attempted:
    """`begun` is the event loop's time at `now`, before the claim."""
    outcome = await _attempt(sessions, settings, claim, now=now, deadline=begun + ATTEMPT_TIMEOUT_S)
    failpoints.reached("report.accepted")
    at = now + timedelta(seconds=loop_time() - begun)
    await _record(sessions, Attempted(claim, outcome), at=at, until=begun + LEASE.total_seconds())
    log_attempt = logger.info if isinstance(outcome, Accepted) else logger.warning
    log_attempt("report tried", day=str(claim.day), attempts=claim.attempts, outcome=type(outcome).__name__)
    return Attempted(claim, outcome)


def lease_from(now: datetime) -> Lease:
    return Lease(now, now + LEASE, [pause_after(attempts) for attempts in range(1, MAX_PAUSE_AFTER + 1)])


def pause_after(attempts: int) -> timedelta:
    """1, 2, 4 … 32 minutes, then every hour."""
    return min(FIRST_PAUSE * (1 << min(attempts, MAX_PAUSE_AFTER) - 1), MAX_PAUSE)


async def _attempt(sessions: Sessions, settings: Settings, claim: Claim, *, now: datetime, deadline: float) -> Outcome:
    """Whatever is raised is this day's failure: nothing of it is the others' concern."""
    try:
        return await _deliver(sessions, settings, claim, now=now, deadline=deadline)
    except Exception as error:
        logger.exception("report not made", day=str(claim.day), attempts=claim.attempts)
        return TemporaryFailure(smtp.one_line(_reason_of(error)))


def _reason_of(error: Exception) -> str:
    """Kind and place alone: the words of an exception may hold anything that stands in the database."""
    cause = getattr(error, "orig", None) or error
    kind = type(cause.__cause__ or cause).__name__
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if PACKAGE_DIR in frame.filename]
    place = f" in {places[-1].name}" if places else ""
    return f"the report could not be made: {kind}{place}; the log of the process has the rest"


async def _deliver(sessions: Sessions, settings: Settings, claim: Claim, *, now: datetime, deadline: float) -> Outcome:
    left = [recipient for recipient in smtp.recipients_of(settings) if recipient not in claim.delivered_to]
    if not left:  # the ones who had to wait were taken out of the settings
        return Accepted(())
    async with asyncio.timeout_at(deadline), repository.snapshot(sessions) as session:
        figures = await repository.figures_of(session, claim.period, taken_at=now)
    rendered = render(figures, LANGUAGES[settings.report_language])
    return await smtp.send(_mail(rendered, claim, date=now), left, settings, deadline=deadline)


def _mail(rendered: Rendered, claim: Claim, *, date: datetime) -> Mail:
    return Mail(
        subject=rendered.subject,
        text=rendered.text,
        html=rendered.html,
        table=rendered.mailings_csv,
        table_name=f"mailings-{claim.day}.csv",
        message_id=f"report.{claim.day}.{claim.key.hex[:12]}",  # short enough for a header that is not folded
        date=date,
    )


async def _record(sessions: Sessions, tried: Attempted, *, at: datetime, until: float) -> None:
    """A database that is away for a moment must not make a report go out twice: insists while the lease lasts."""
    while True:
        try:
            async with transaction(sessions) as session:
                return await _write(session, tried, at)
        except (DBAPIError, PoolTimeout, asyncpg.PostgresError, OSError):
            if loop_time() > until:
                raise
            await asyncio.sleep(RECORD_PAUSE_S)


async def _write(session: AsyncSession, tried: Attempted, at: datetime) -> None:
    claim, outcome = tried.claim, tried.outcome
    due_at = at + pause_after(claim.attempts)
    match outcome:
        case Accepted(delivered, reason):
            await repository.record_sent(session, claim, at=at, delivered=delivered, reason=reason)
        case PartlyAccepted(delivered, reason):
            await repository.record_failure(session, claim, Failure(reason, due_at, delivered))
        case TemporaryFailure(reason):
            await repository.record_failure(session, claim, Failure(reason, due_at))
        case PermanentFailure(reason):
            await repository.record_failure(session, claim, Failure(reason, due_at, permanently_failed=True))
        case _:
            assert_never(outcome)


def loop_time() -> float:
    return asyncio.get_running_loop().time()

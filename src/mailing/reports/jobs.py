"""Send the missing reports: exactly one for each day.

The database knows which days are missing. A day is claimed and the claim committed before its figures are read and the
mail server is called; during the call no transaction is open and no connection is held. Every outcome is recorded
afterwards: a report that can't be computed or rendered has failed like one that the server rejected, and each waits for
its own next attempt.

No sender can exclude one duplicate: the mail server accepts the mail, and the process dies or loses the database for
minutes before that is recorded. When the lease expires the report is sent again, with the same Message-ID.
"""

import asyncio
import traceback
from datetime import datetime, timedelta
from pathlib import Path
from typing import assert_never

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from mailing import failpoints
from mailing.database.clock import database_now
from mailing.database.engine import Sessions, in_transaction, transaction
from mailing.database.errors import DATABASE_ERRORS, cause
from mailing.gateway.providers import receipts_expected
from mailing.observability import failures, log
from mailing.reports import planning, repository, smtp
from mailing.reports.render import Rendered, render
from mailing.reports.repository import LEASE, Claim
from mailing.reports.schedule import oldest_wanted
from mailing.reports.smtp import Accepted, Mail, Outcome, PartlyAccepted, PermanentFailure, TemporaryFailure
from mailing.reports.translations import words_in
from mailing.restore.repository import is_restored
from mailing.settings import Settings
from mailing.timezones import zone_named

ATTEMPT_TIMEOUT_S = 300.0  # from before the claim; below the lease: a frozen worker stops before another starts
RECORD_PAUSE_S = 1.0
PACKAGE_DIR = str(Path(__file__).parent)

logger = log.get(__name__)


class Attempted(Struct, frozen=True):
    claim: Claim
    outcome: Outcome


async def send_missing(sessions: Sessions, settings: Settings) -> None:
    """Send the reports that are due, oldest first; called every minute.

    Nothing is claimed without recipients, or in a restored database, which doesn't know the days reported since the
    backup. The time is that of the database.
    """
    if await in_transaction(sessions, is_restored):
        return
    while await send_next(sessions, settings, now=await in_transaction(sessions, database_now)):
        pass


async def send_next(sessions: Sessions, settings: Settings, *, now: datetime) -> Attempted | None:
    """Try to send the oldest report that is due at `now`; None if there is none.

    The first report is about the day before a recipient was first set: it shows that mail works.
    """
    if not smtp.recipients_of(settings):
        return None
    begun = loop_time()
    async with transaction(sessions) as session:
        await planning.plan(session, settings, now=now)
        oldest = oldest_wanted(now, zone_named(settings.report_timezone))
        claim = await repository.claim_oldest(session, oldest=oldest, now=now)
    return await send_claimed(sessions, settings, claim, now=now, begun=begun) if claim else None


async def send_claimed(
    sessions: Sessions, settings: Settings, claim: Claim, *, now: datetime, begun: float
) -> Attempted:
    """Send a claimed report and record the outcome. `begun` is the event loop's time at `now`, before the claim."""
    outcome = await _attempt(sessions, settings, claim, now=now, deadline=begun + ATTEMPT_TIMEOUT_S)
    failpoints.hit("report.accepted")
    at = now + timedelta(seconds=loop_time() - begun)
    await _record(sessions, Attempted(claim, outcome), at=at, until=begun + LEASE.total_seconds())
    log_attempt = logger.info if isinstance(outcome, Accepted) else logger.warning
    log_attempt("report attempted", day=str(claim.day), attempts=claim.attempts, outcome=type(outcome).__name__)
    return Attempted(claim, outcome)


async def _attempt(sessions: Sessions, settings: Settings, claim: Claim, *, now: datetime, deadline: float) -> Outcome:
    """Deliver one report. Any exception is the failure of this day alone."""
    try:
        return await _deliver(sessions, settings, claim, now=now, deadline=deadline)
    except Exception as error:  # noqa: BLE001 - logged
        failures.log(logger, "report not rendered", error, day=str(claim.day), attempts=claim.attempts)
        return TemporaryFailure(smtp.one_line(_reason_of(error)))


def _reason_of(error: Exception) -> str:
    """Describe an exception by its type and function only: its message may contain data from the database."""
    kind = type(cause(error)).__name__
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if PACKAGE_DIR in frame.filename]
    place = f" in {places[-1].name}" if places else ""
    return f"the report could not be rendered: {kind}{place}; see the log of the process"


async def _deliver(sessions: Sessions, settings: Settings, claim: Claim, *, now: datetime, deadline: float) -> Outcome:
    left = [recipient for recipient in smtp.recipients_of(settings) if recipient not in claim.delivered_to]
    if not left:  # the recipients still waiting were removed from the settings
        return Accepted(())
    async with asyncio.timeout_at(deadline), repository.snapshot(sessions) as session:
        figures = await repository.figures_of(session, claim.period, taken_at=now, receipts=receipts_expected(settings))
    rendered = render(figures, words_in(settings.report_language))
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
    """Record the outcome, retrying while the lease lasts: a short outage must not cause a duplicate report."""
    while True:
        try:
            return await in_transaction(sessions, _write, tried, at)
        except DATABASE_ERRORS:  # also permanent ones: retries end with the lease; unrecorded, it would be mailed twice
            if loop_time() > until:
                raise
            await asyncio.sleep(RECORD_PAUSE_S)


async def _write(session: AsyncSession, tried: Attempted, at: datetime) -> None:
    claim, outcome = tried.claim, tried.outcome
    match outcome:
        case Accepted(delivered, reason):
            await repository.record_sent(session, claim, at=at, delivered=delivered, reason=reason)
        case PartlyAccepted(delivered, reason):
            await repository.record_failure(session, claim, at=at, reason=reason, delivered=delivered)
        case TemporaryFailure(reason):
            await repository.record_failure(session, claim, at=at, reason=reason)
        case PermanentFailure(reason):
            await repository.record_failure(session, claim, at=at, reason=reason, is_permanent=True)
        case _:
            assert_never(outcome)


def loop_time() -> float:
    return asyncio.get_running_loop().time()

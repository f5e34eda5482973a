"""What `mailing report` does: print the report of a day, or send it now."""

from datetime import date, datetime
from typing import TypeAlias, assert_never

from msgspec import Struct

from mailing.database.engine import Sessions, transaction
from mailing.errors import FieldError, Invalid
from mailing.reports import planning, repository, smtp
from mailing.reports.jobs import LEASE, lease_from, loop_time, send_claimed
from mailing.reports.render import Rendered, render
from mailing.reports.smtp import Accepted, PartlyAccepted, PermanentFailure, TemporaryFailure
from mailing.reports.translations import LANGUAGES, Words
from mailing.settings import Settings
from mailing.timezones import zone_named


class ReportSent(Struct, frozen=True):
    """`reason` says which of the recipients will never get it."""

    day: date
    delivered: int
    reason: str | None


class AlreadySent(Struct, frozen=True):
    day: date
    at: datetime


class InProgress(Struct, frozen=True):
    """Another process is sending it, or died doing so; its lease is soon over."""

    day: date


class ReportNotSent(Struct, frozen=True):
    day: date
    reason: str


SendResult: TypeAlias = ReportSent | AlreadySent | InProgress | ReportNotSent


async def newest_day(sessions: Sessions, settings: Settings, *, now: datetime) -> date:
    """The newest day that is over: yesterday, where the report is read."""
    async with transaction(sessions) as session:
        return (await planning.calendar(session, settings, now=now)).newest().date


async def text_of_report(sessions: Sessions, settings: Settings, day: date, *, now: datetime) -> str:
    """For `--dry-run`."""
    return (await rendered_report(sessions, settings, day, now=now, words=LANGUAGES[settings.report_language])).text


async def rendered_report(
    sessions: Sessions, settings: Settings, day: date, *, now: datetime, words: Words
) -> Rendered:
    """As the messages stand now. Today's is the report so far; Invalid for a day that has not begun."""
    async with repository.snapshot(sessions) as session:
        period = await planning.day_on(session, settings, day, now=now)
        figures = await repository.figures_of(session, period, taken_at=now)
    return render(figures, words)


async def send_report(sessions: Sessions, settings: Settings, day: date, *, now: datetime) -> SendResult:
    """Sends the day's report unless that was done, without waiting for its time or for the next try.

    Invalid for a day that is not over, and without recipients.
    """
    if not smtp.recipients_of(settings):
        raise Invalid(FieldError("MAILING_REPORT_TO", "is not set: there is nobody to send the report to"))
    begun, zone = loop_time(), zone_named(settings.report_timezone)
    async with transaction(sessions) as session:
        await planning.plan(session, settings, now=now)  # the day is no reason to leave others out
        period = await planning.day_on(session, settings, day, now=now)
        if period.ends > now:
            raise Invalid(FieldError("date", f"{day} is not over yet; --dry-run prints the report so far"))
        claim = await repository.claim_day(session, period, zone=zone, lease=lease_from(now))
        sent_at = None if claim else await repository.sent_at(session, day)
    if claim is None:
        return AlreadySent(day, sent_at) if sent_at else InProgress(day)
    tried = await send_claimed(sessions, settings, claim, now=now, begun=begun)
    match tried.outcome:
        case Accepted(delivered, reason):
            return ReportSent(day, len(delivered), reason)
        case PartlyAccepted(reason=reason) | TemporaryFailure(reason) | PermanentFailure(reason):
            return ReportNotSent(day, reason)
        case _:
            assert_never(tried.outcome)


def describe(answer: SendResult) -> str:
    match answer:
        case ReportSent(day, delivered, reason):
            to = f"{delivered} recipient{'' if delivered == 1 else 's'}" + (f", but not to {reason}" if reason else "")
            return f"The report of {day} was sent to {to}."
        case AlreadySent(day, at):
            return f"The report of {day} was already sent at {at:%Y-%m-%d %H:%M} UTC; it is not sent again."
        case InProgress(day):
            minutes = int(LEASE.total_seconds() // 60)
            return f"The report of {day} is being sent by another process; try again in {minutes} minutes."
        case ReportNotSent(day, reason):
            return f"The report of {day} was not sent: {reason}"
        case _:
            assert_never(answer)


def exit_code(answer: SendResult) -> int:
    """A report that was sent before is sent: 0, so that the command can be repeated."""
    return 0 if isinstance(answer, ReportSent | AlreadySent) else 1

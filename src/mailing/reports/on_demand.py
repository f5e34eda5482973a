"""The command `mailing report`: print the report of a day, or send it now."""

from datetime import date, datetime
from typing import TypeAlias, assert_never

from msgspec import Struct

from mailing.database.engine import Sessions, transaction
from mailing.errors import FieldError, Invalid
from mailing.gateway.providers import receipts_expected
from mailing.reports import planning, repository, smtp
from mailing.reports.jobs import Attempted, loop_time, send_claimed
from mailing.reports.render import Rendered, render
from mailing.reports.repository import LEASE
from mailing.reports.smtp import Accepted, PartlyAccepted
from mailing.reports.translations import Words, words_in
from mailing.settings import Settings


class AlreadySent(Struct, frozen=True):
    day: date
    at: datetime


class InProgress(Struct, frozen=True):
    """Another process is sending the report, or died while sending; its lease expires soon."""

    day: date


SendResult: TypeAlias = Attempted | AlreadySent | InProgress


async def newest_day(sessions: Sessions, settings: Settings, *, now: datetime) -> date:
    """Return the newest day that is over: yesterday in the time zone of the reports."""
    async with transaction(sessions) as session:
        return (await planning.calendar(session, settings, now=now)).newest().date


async def text_of_report(sessions: Sessions, settings: Settings, day: date, *, now: datetime) -> str:
    return (await rendered_report(sessions, settings, day, now=now, words=words_in(settings.report_language))).text


async def rendered_report(
    sessions: Sessions, settings: Settings, day: date, *, now: datetime, words: Words
) -> Rendered:
    """Render a report from the current data. Today's is partial; Invalid for a day that has not begun."""
    async with repository.snapshot(sessions) as session:
        period = await planning.day_on(session, settings, day, now=now)
        figures = await repository.figures_of(session, period, taken_at=now, receipts=receipts_expected(settings))
    return render(figures, words)


async def send_report(sessions: Sessions, settings: Settings, day: date, *, now: datetime) -> SendResult:
    """Send a day's report unless it was sent, without waiting for its time or the next attempt.

    Raises Invalid for a day that is not over, and without recipients.
    """
    if not smtp.recipients_of(settings):
        raise Invalid(FieldError("MAILING_REPORT_TO", "is not set; set it to the addresses that get the report"))
    begun = loop_time()
    async with transaction(sessions) as session:
        await planning.plan(session, settings, now=now)  # other days are planned too
        period = await planning.day_on(session, settings, day, now=now)
        if period.ends > now:
            raise Invalid(FieldError("date", f"{day} is not over yet; --dry-run prints the report so far"))
        claim = await repository.claim_day(session, period, now=now)
        sent_at = None if claim else await repository.sent_at(session, day)
    if claim is None:
        return AlreadySent(day, sent_at) if sent_at else InProgress(day)
    return await send_claimed(sessions, settings, claim, now=now, begun=begun)


def describe(answer: SendResult) -> str:
    match answer:
        case Attempted(claim, Accepted(delivered, reason) | PartlyAccepted(delivered, reason)):
            number = len(delivered)
            to = f"{number} recipient{'' if number == 1 else 's'}" + (f", but not to {reason}" if reason else "")
            return f"The report of {claim.day} was sent to {to}."
        case Attempted(claim, failure):
            return f"The report of {claim.day} was not sent: {failure.reason}"
        case AlreadySent(day, at):
            return f"The report of {day} was already sent at {at:%Y-%m-%d %H:%M} UTC; it is not sent again."
        case InProgress(day):
            minutes = int(LEASE.total_seconds() // 60)
            return f"The report of {day} is being sent by another process; try again in {minutes} minutes."
        case _:
            assert_never(answer)


def exit_code(answer: SendResult) -> int:
    """Return the exit code: 0 too if the report was sent before, so the command can be repeated."""
    accepted = isinstance(answer, Attempted) and isinstance(answer.outcome, Accepted)
    return 0 if accepted or isinstance(answer, AlreadySent) else 1

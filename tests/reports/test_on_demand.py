from datetime import UTC, date, datetime, timedelta

import pytest
from msgspec.structs import replace

from mailing.errors import Invalid
from mailing.reports.on_demand import (
    AlreadySent,
    InProgress,
    describe,
    exit_code,
    newest_day,
    send_report,
    text_of_report,
)
from mailing.settings import Settings
from support.database import Database
from support.reports import Reports, Rows

NOW = datetime(2024, 1, 10, 8, tzinfo=UTC)
YESTERDAY, TODAY = date(2024, 1, 9), date(2024, 1, 10)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


async def test_a_dry_run_prints_the_report_and_sends_nothing(reports: Reports, db: Database, rows: Rows) -> None:
    await rows.messages(await rows.mailing("Good day"), "sent", 7, at=NOW - DAY)
    printed = await text_of_report(
        db.sessions, reports.settings, await newest_day(db.sessions, reports.settings, now=NOW), now=NOW
    )
    assert "Tuesday, 9 January 2024" in printed
    assert "Good day" in printed
    assert reports.office.mails == []
    assert await reports.rows() == []


async def test_a_dry_run_of_today_is_the_report_so_far_and_of_tomorrow_is_refused(
    reports: Reports, db: Database
) -> None:
    assert "not over yet" in await text_of_report(db.sessions, reports.settings, TODAY, now=NOW)
    for impossible in (TODAY + DAY, date.max, date.min):
        with pytest.raises(Invalid):
            await text_of_report(db.sessions, reports.settings, impossible, now=NOW)


async def test_yesterday_is_that_of_the_reports_zone(db: Database, settings: Settings) -> None:
    at = datetime(2024, 1, 10, 22, tzinfo=UTC)
    assert await newest_day(db.sessions, settings, now=at) == YESTERDAY
    assert await newest_day(db.sessions, replace(settings, report_timezone="Europe/Moscow"), now=at) == TODAY


async def test_a_report_is_sent_before_its_time_and_never_again(reports: Reports, db: Database) -> None:
    first = await send_report(db.sessions, reports.settings, YESTERDAY, now=NOW)
    assert describe(first) == "The report of 2024-01-09 was sent to 1 recipient."
    again = await send_report(db.sessions, reports.settings, YESTERDAY, now=NOW + HOUR)
    assert isinstance(again, AlreadySent)
    assert describe(again) == "The report of 2024-01-09 was already sent at 2024-01-10 08:00 UTC; it is not sent again."
    assert (exit_code(first), exit_code(again)) == (0, 0)
    assert await reports.send(NOW + 2 * HOUR) == []
    assert len(reports.office.mails) == 1


async def test_an_old_day_can_be_sent_and_changes_nothing_for_the_schedule(reports: Reports, db: Database) -> None:
    sent = await send_report(db.sessions, reports.settings, date(2023, 12, 24), now=NOW)
    assert describe(sent) == "The report of 2023-12-24 was sent to 1 recipient."
    await reports.send(NOW + HOUR)
    assert reports.office.days == ["2023-12-24", "2024-01-09"]


async def test_a_failure_is_told_and_the_next_command_need_not_wait(reports: Reports, db: Database) -> None:
    reports.office.recipient_answers = ["451 later"]
    failed = await send_report(db.sessions, reports.settings, YESTERDAY, now=NOW)
    assert describe(failed) == "The report of 2024-01-09 was not sent: ops@example.org: 451 later"
    assert exit_code(failed) == 1
    assert exit_code(await send_report(db.sessions, reports.settings, YESTERDAY, now=NOW)) == 0


async def test_a_report_that_some_recipients_got_is_not_called_unsent(reports: Reports, db: Database) -> None:
    reports.office.recipient_answers = ["250 OK", "451 later"]
    chosen = replace(reports.settings, report_to="ops@example.org,slow@example.org")
    sent = await send_report(db.sessions, chosen, YESTERDAY, now=NOW)
    assert describe(sent) == "The report of 2024-01-09 was sent to 1 recipient, but not to slow@example.org: 451 later."
    assert exit_code(sent) == 1


async def test_a_report_that_another_process_is_sending_is_left_alone(reports: Reports, db: Database) -> None:
    async def meanwhile() -> None:
        answers.append(await send_report(db.sessions, reports.settings, YESTERDAY, now=NOW))

    answers: list[object] = []
    reports.office.during_data = meanwhile
    assert exit_code(await send_report(db.sessions, reports.settings, YESTERDAY, now=NOW)) == 0
    assert answers == [InProgress(YESTERDAY)]
    assert "another process" in describe(InProgress(YESTERDAY))
    assert exit_code(InProgress(YESTERDAY)) == 1


async def test_a_day_that_is_not_over_and_a_missing_recipient_are_refused(reports: Reports, db: Database) -> None:
    with pytest.raises(Invalid, match="--dry-run"):
        await send_report(db.sessions, reports.settings, TODAY, now=NOW)
    with pytest.raises(Invalid, match="MAILING_REPORT_TO"):
        await send_report(db.sessions, replace(reports.settings, report_to=None), YESTERDAY, now=NOW)
    assert await reports.rows() == []

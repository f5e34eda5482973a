from datetime import UTC, date, datetime, timedelta

from mailing.database.engine import transaction
from mailing.reports.delivery_log import ReportedDay, last_reports, report_of
from mailing.reports.schedule import oldest_wanted
from mailing.settings import Settings
from mailing.timezones import zone_named
from support.database import Database
from support.reports import Reports

NOW = datetime(2024, 1, 10, 9, tzinfo=UTC)
DAY = timedelta(days=1)


async def read(db: Database, settings: Settings, *, now: datetime = NOW, count: int = 31) -> list[ReportedDay]:
    return await db.commit(last_reports, settings, now=now, count=count)


async def test_each_day_tells_when_it_was_sent_or_why_it_waits(reports: Reports, db: Database) -> None:
    await reports.send(NOW)
    reports.office.recipient_answers = ["550 no such user", "451 greylisted"]
    await reports.send(NOW + 2 * DAY)
    [waiting, refused, sent] = await read(db, reports.settings, now=NOW + 2 * DAY)
    assert [(each.day, each.state, each.reason) for each in (sent, refused, waiting)] == [
        (date(2024, 1, 9), "sent", None),
        (date(2024, 1, 10), "refused", "ops@example.org: 550 no such user"),
        (date(2024, 1, 11), "waiting", "ops@example.org: 451 greylisted"),
    ]
    assert (sent.attempts, sent.next_try_at) == (1, None)
    assert sent.sent_at
    assert sent.sent_at >= NOW
    assert waiting.next_try_at
    assert waiting.next_try_at > NOW + 2 * DAY


async def test_a_report_under_way_is_said_to_be_so_and_old_days_are_left_out(reports: Reports, db: Database) -> None:
    await reports.send(NOW)
    add = """INSERT INTO report (day, zone, starts, ends, due_at, lease_until)
        VALUES ('2024-01-10', 'UTC', '2024-01-10 00:00Z', '2024-01-11 00:00Z', now(), now())"""
    await db.run(add)
    [newest] = await read(db, reports.settings, count=1)
    assert (newest.day, newest.state) == (date(2024, 1, 10), "sending")


async def test_a_day_is_given_up_when_it_is_no_longer_among_those_that_are_made_up_for(
    reports: Reports, db: Database
) -> None:
    reports.office.recipient_answers = ["451 greylisted"]
    await reports.send(NOW)
    [before] = await read(db, reports.settings, now=NOW)
    assert (before.state, before.tried_until) == ("waiting", datetime(2024, 2, 10, tzinfo=UTC))
    for now, state in ((before.tried_until - timedelta(seconds=1), "waiting"), (before.tried_until, "given_up")):
        [day] = await read(db, reports.settings, now=now)
        wanted = before.day >= oldest_wanted(now, zone_named(reports.settings.report_timezone))
        assert (day.state, wanted) == (state, state == "waiting")


async def test_one_day_is_found_by_itself(reports: Reports, db: Database) -> None:
    await reports.send(NOW)
    async with transaction(db.sessions) as session:
        found = await report_of(session, reports.settings, date(2024, 1, 9), now=NOW)
        assert found
        assert (found.state, found.delivered_to) == ("sent", ["ops@example.org"])
        assert await report_of(session, reports.settings, date(2024, 1, 8), now=NOW) is None
    assert len(reports.office.mails) == 1

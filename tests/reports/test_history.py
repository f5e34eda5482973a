from datetime import UTC, date, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from mailing.db import Sessions, transaction
from mailing.reports.history import ReportedDay, last_reports
from mailing.settings import Settings
from reports.conftest import send_all
from reports.post_office import PostOffice
from rows import run

NOW = datetime(2024, 1, 10, 9, tzinfo=UTC)
DAY = timedelta(days=1)


async def read(sessions: Sessions, *, count: int = 31) -> list[ReportedDay]:
    async with transaction(sessions) as session:
        return await last_reports(session, count=count)


async def test_each_day_tells_when_it_was_sent_or_why_it_waits(
    sessions: Sessions, reporting: Settings, office: PostOffice
) -> None:
    await send_all(sessions, reporting, NOW)
    office.recipient_answers = ["550 no such user", "451 greylisted"]
    await send_all(sessions, reporting, NOW + 2 * DAY)
    [waiting, refused, sent] = await read(sessions)
    assert (sent.day, sent.state, sent.tries, sent.next_try_at, sent.reason) == (
        date(2024, 1, 9),
        "sent",
        1,
        None,
        None,
    )
    assert sent.sent_at
    assert sent.sent_at >= NOW
    assert (refused.day, refused.state, refused.reason) == (
        date(2024, 1, 10),
        "refused",
        "ops@example.org: 550 no such user",
    )
    assert (waiting.day, waiting.state, waiting.reason) == (
        date(2024, 1, 11),
        "waiting",
        "ops@example.org: 451 greylisted",
    )
    assert waiting.next_try_at
    assert waiting.next_try_at > NOW + 2 * DAY


async def test_a_report_under_way_is_said_to_be_so_and_old_days_are_left_out(
    sessions: Sessions, reporting: Settings, engine: AsyncEngine
) -> None:
    await send_all(sessions, reporting, NOW)
    await run(
        engine, "INSERT INTO report (day, due_at, lease_until) VALUES ('2024-01-10', now(), now() + interval '1 h')"
    )
    assert [(each.day, each.state) for each in await read(sessions, count=1)] == [(date(2024, 1, 10), "sending")]

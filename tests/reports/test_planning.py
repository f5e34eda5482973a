"""The periods of reports tile the time, whatever becomes of zone, time and workers meanwhile."""

import asyncio
import random
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy.exc import IntegrityError

from mailing.errors import Invalid
from mailing.reports.delivery_log import last_reports, next_report
from mailing.reports.on_demand import AlreadySent, describe, newest_day, send_report, text_of_report
from mailing.settings import Settings
from support.database import Database
from support.reports import Reports, Rows

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
WEST, EAST = "America/New_York", "Pacific/Auckland"
CHANGED = datetime(2026, 12, 30, 14, 30, tzinfo=UTC)
ZONES = (WEST, EAST, "Pacific/Kiritimati", "Etc/GMT+12", "Asia/Kolkata", "Australia/Lord_Howe", "UTC", "Africa/Cairo")


@pytest.fixture
def eastern(reports: Reports) -> Settings:
    return replace(reports.settings, report_timezone=EAST)


@pytest.fixture
def western(reports: Reports) -> Settings:
    return replace(reports.settings, report_timezone=WEST)


async def moved_west(reports: Reports, eastern: Settings, western: Settings) -> None:
    """Three reports in the east, then two in the west."""
    for n in (3, 2, 1):
        await reports.send(CHANGED - n * DAY + 6 * HOUR, eastern)
    for n in (0, 1, 2):
        await reports.send(CHANGED + n * DAY, western)


async def test_after_a_change_of_the_zone_the_first_report_begins_where_the_last_one_ended(
    reports: Reports, eastern: Settings, western: Settings, rows: Rows
) -> None:
    mailing = await rows.mailing()
    hours = [datetime(2026, 12, 28, tzinfo=UTC) + hour * HOUR for hour in range(4 * 24)]
    await rows.messages(mailing, "sent", at=hours)
    await moved_west(reports, eastern, western)
    found = await reports.rows()
    assert reports.office.days == [str(row["day"]) for row in found]
    assert all(before["ends"] == after["starts"] for before, after in pairwise(found))
    assert [row["ends"] - row["starts"] for row in found] == [DAY, DAY, DAY, 42 * HOUR, DAY]
    assert [subject.rpartition(": ")[2] for subject in reports.office.subjects[2:4]] == ["24 sent", "42 sent"]


async def test_a_period_that_is_no_plain_day_is_stated_in_mail_and_history(
    reports: Reports, db: Database, eastern: Settings, western: Settings
) -> None:
    await moved_west(reports, eastern, western)
    told = "Not a whole local day, but 2026-12-29 06:00 to 2026-12-31 00:00 local time"
    for mail, number in zip(reports.office.mails, (0, 0, 0, 1, 0), strict=True):
        for form in ("plain", "html"):
            assert " ".join(mail.body(form).split()).count(told) == number
    found = await db.commit(last_reports, western, now=CHANGED + 2 * DAY)
    assert [each.period.is_local_day for each in found] == [True, False, True, True, True]


async def test_the_report_so_far_and_the_next_one_follow_the_rows(
    reports: Reports, db: Database, eastern: Settings, western: Settings
) -> None:
    await reports.send(CHANGED - 18 * HOUR, eastern)
    assert await newest_day(db.sessions, western, now=CHANGED) == date(2026, 12, 29)
    coming = await db.commit(next_report, western, now=CHANGED)
    assert coming
    assert (coming.day, coming.due_at) == (date(2026, 12, 30), datetime(2026, 12, 31, 14, tzinfo=UTC))
    so_far = await text_of_report(db.sessions, western, date(2026, 12, 30), now=CHANGED)
    assert "2026-12-29 11:00 to 2026-12-31 05:00 UTC" in so_far
    assert "Pacific/Auckland" in await text_of_report(db.sessions, western, date(2026, 12, 29), now=CHANGED)
    with pytest.raises(Invalid, match="has not begun"):
        await text_of_report(db.sessions, western, date(2026, 12, 31), now=CHANGED)


async def test_on_demand_a_day_before_the_first_report_takes_no_hour_of_another(
    reports: Reports, db: Database, eastern: Settings, western: Settings
) -> None:
    await reports.send(CHANGED - 18 * HOUR, eastern)
    assert "was sent to" in describe(await send_report(db.sessions, western, date(2026, 12, 28), now=CHANGED))
    assert isinstance(await send_report(db.sessions, western, date(2026, 12, 29), now=CHANGED), AlreadySent)
    first, second = await reports.rows()
    assert first["starts"] == datetime(2026, 12, 28, 5, tzinfo=UTC)
    assert first["ends"] == second["starts"] == datetime(2026, 12, 28, 11, tzinfo=UTC)


async def test_a_date_without_a_report_of_its_own_is_said_to_have_none(reports: Reports, db: Database) -> None:
    """From twelve hours behind to fourteen ahead: a date begins and ends there within the last day here."""
    behind, ahead = (replace(reports.settings, report_timezone=zone) for zone in ("Etc/GMT+12", "Pacific/Kiritimati"))
    for n in (1, 0):
        await reports.send(CHANGED - n * DAY, behind)
    await reports.send(CHANGED + DAY, ahead)
    assert [row["day"].day for row in await reports.rows()] == [28, 29, 31]
    for day in (29, 31):
        await text_of_report(db.sessions, ahead, date(2026, 12, day), now=CHANGED + DAY)
    with pytest.raises(Invalid, match="neighbouring days cover its hours"):
        await send_report(db.sessions, ahead, date(2026, 12, 30), now=CHANGED + DAY)


async def test_a_report_that_was_not_sent_before_the_change_keeps_its_period(
    reports: Reports, eastern: Settings, western: Settings
) -> None:
    await reports.send(CHANGED - 20 * HOUR, replace(eastern, report_time="23:00"))
    before = await reports.rows()
    assert reports.office.days == []
    await reports.send(CHANGED - 20 * HOUR, western)
    assert reports.office.days == ["2026-12-29"]
    for name in ("zone", "starts", "ends"):
        assert [row[name] for row in await reports.rows()] == [row[name] for row in before]


async def test_two_workers_with_different_zones_leave_no_gap_and_count_no_hour_twice(
    reports: Reports, eastern: Settings, western: Settings
) -> None:
    for n in range(12):
        at = CHANGED + n * 13 * HOUR
        await asyncio.gather(*(reports.send(at, chosen) for chosen in (eastern, western) * 2))
    assert_tiled(await reports.rows())


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_is_changed_and_however_long_nobody_works_the_periods_tile_the_time(
    reports: Reports, rows: Rows, db: Database, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - changes, not secrets
    mailing = await rows.mailing()
    began = datetime(2026, 3, 20, 7, tzinfo=UTC)
    ends = [began + chance.randrange(60 * 24 * 60) * MINUTE for _ in range(200)]
    await rows.messages(mailing, "sent", at=ends)
    now, chosen = began, reports.settings
    while now < began + 60 * DAY:
        clock = f"{chance.randrange(24):02}:{chance.choice(('00', '30'))}"
        chosen = replace(reports.settings, report_timezone=chance.choice(ZONES), report_time=clock)
        for _ in range(chance.randrange(1, 6)):
            await reports.send(now, chosen)
            now += chance.choice([20 * MINUTE, 5 * HOUR, DAY, 26 * HOUR, 9 * DAY])
    await reports.send(now + 2 * DAY, replace(chosen, report_time="00:00"))
    found = await reports.rows()
    assert_tiled(found)
    assert all(row["sent_at"] for row in found)
    assert sorted(reports.office.days) == [str(row["day"]) for row in found]
    figures = dict(
        zip(reports.office.days, (subject.rpartition(": ")[2] for subject in reports.office.subjects), strict=True)
    )
    for row in found:
        within = "SELECT count(*) FROM message WHERE finished_at >= :starts AND finished_at < :ends"
        counted = await db.value(within, starts=row["starts"], ends=row["ends"])
        assert figures[str(row["day"])] == f"{counted} sent"


def assert_tiled(found: list[dict[str, Any]]) -> None:
    assert len(found) > 5
    for before, after in pairwise(found):
        assert before["ends"] == after["starts"]


async def test_the_database_refuses_an_hour_in_two_reports(db: Database) -> None:
    add = """INSERT INTO report (day, zone, starts, ends, due_at)
             VALUES (:day, 'UTC', '2026-12-29 00:00Z', '2026-12-30 00:00Z', now())"""
    await db.run(add, day=date(2026, 12, 29))
    with pytest.raises(IntegrityError, match="report_once"):
        await db.run(add, day=date(2026, 12, 30))

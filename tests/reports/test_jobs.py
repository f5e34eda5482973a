import asyncio
import os
import random
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from msgspec.structs import replace

from mailing.database.engine import open_engine, transaction
from mailing.database.engine import sessions as sessions_of
from mailing.reports.jobs import send_missing, send_next
from mailing.reports.planning import plan
from mailing.reports.repository import LEASE, claim_oldest
from mailing.reports.schedule import MAX_CATCH_UP_DAYS, day_of, oldest_wanted
from mailing.reports.smtp import Accepted, PartlyAccepted, PermanentFailure, TemporaryFailure
from mailing.settings import Settings
from support.database import Database
from support.logs import logged
from support.mail_server import DROP
from support.proxy import proxy
from support.reports import Reports, Rows

NOW = datetime(2024, 1, 10, 9, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
PAUSES = [MINUTE, 2 * MINUTE, 4 * MINUTE, 8 * MINUTE, 16 * MINUTE, 32 * MINUTE, HOUR, HOUR]  # after failures


def days(first: date, number: int) -> list[str]:
    return [str(first + n * DAY) for n in range(number)]


async def test_the_report_of_yesterday_is_sent_once_at_its_time(reports: Reports, rows: Rows) -> None:
    mailing = await rows.mailing("<script>alert(1)</script>")
    await rows.messages(mailing, "sent", 1234, at=NOW - DAY)
    assert await reports.send(NOW - MINUTE) == []
    [tried] = await reports.send(NOW)
    assert tried.outcome == Accepted(["ops@example.org"])
    assert await reports.send(NOW + MINUTE) == []
    [mail] = reports.office.mails
    assert mail.message["Subject"] == "Mailing report for 9 January 2024: 1\u202f234 sent"
    assert "&lt;script&gt;" in mail.body("html")
    assert "<script>" not in mail.body("html")


async def test_a_service_first_seen_after_the_time_of_day_reports_yesterday_and_nothing_older(
    reports: Reports, rows: Rows
) -> None:
    await rows.messages(await rows.mailing(), "sent", at=NOW - 5 * DAY)
    await reports.send(NOW + 10 * HOUR)
    assert reports.office.days == ["2024-01-09"]


async def test_without_a_recipient_nothing_is_claimed(reports: Reports) -> None:
    assert await reports.send(NOW, replace(reports.settings, report_to=None)) == []
    assert await reports.rows() == []
    assert reports.office.conversations == 0


async def test_a_restored_database_reports_nothing_until_sending_is_resumed(reports: Reports, db: Database) -> None:
    """The days since the backup may have been reported."""
    now_is_due = replace(reports.settings, report_time="00:00")
    await db.run("UPDATE installation SET database_identity = 'elsewhere'")
    await send_missing(db.sessions, now_is_due)
    assert reports.office.conversations == 0
    await db.run("UPDATE installation SET database_identity = database_identity()")
    await send_missing(db.sessions, now_is_due)
    assert len(reports.office.mails) == 1


async def test_after_an_outage_each_missing_day_gets_its_report_oldest_first(reports: Reports) -> None:
    await reports.send(NOW)
    await reports.send(NOW + 6 * DAY - MINUTE)
    assert reports.office.days == days(date(2024, 1, 9), 6)
    await reports.send(NOW + 6 * DAY)
    assert reports.office.days == days(date(2024, 1, 9), 7)


async def test_a_very_long_outage_is_made_up_for_a_month(reports: Reports) -> None:
    await reports.send(NOW)
    await reports.send(NOW + 100 * DAY)
    assert reports.office.days[1:] == days(
        date(2024, 1, 9) + 100 * DAY - (MAX_CATCH_UP_DAYS - 1) * DAY, MAX_CATCH_UP_DAYS
    )


@pytest.mark.parametrize(
    ("zone", "first"),
    [
        ("America/Sao_Paulo", datetime(2018, 10, 20, tzinfo=UTC)),
        ("Africa/Cairo", datetime(2023, 4, 15, tzinfo=UTC)),
        ("Asia/Beirut", datetime(2024, 3, 15, tzinfo=UTC)),
    ],
)
async def test_thirty_faulty_days_each_have_exactly_one_report_with_the_right_figures(
    reports: Reports, rows: Rows, zone: str, first: datetime
) -> None:
    chance = random.Random(zone)  # noqa: S311 - faults, not secrets
    chosen = replace(reports.settings, report_timezone=zone, report_time="00:30")
    down = replace(chosen, smtp_port=1)
    mailing, numbers = await rows.mailing(), dict[str, int]()
    for n in range(30):
        numbers[str(first.date() + n * DAY)] = n + 1
        local = day_of(first.date() + n * DAY, ZoneInfo(zone))
        for at in (local.starts, local.ends - MINUTE):
            await rows.messages(mailing, "sent", n + 1, at=at)
    now = day_of(first.date(), ZoneInfo(zone)).ends + HOUR
    while now < first + 31 * DAY:
        fault = chance.choice(["none", "none", "down", "greylisted", "spam", "cut"])
        reports.office.recipient_answers = ["451 later"] if fault == "greylisted" else []
        reports.office.data_answers = {"spam": ["554 spam"], "cut": ["421 going down"]}.get(fault, [])
        await asyncio.gather(*(reports.send(now, down if fault == "down" else chosen) for _ in range(2)))
        now += chance.choice([MINUTE, HOUR, 5 * HOUR, 11 * HOUR, 30 * HOUR])
    reports.office.recipient_answers, reports.office.data_answers = [], []
    await reports.send(now + 2 * HOUR, chosen)
    reported = [day for day in reports.office.days if day in numbers]
    assert sorted(reported) == sorted(numbers)
    assert len(set(reports.office.days)) == len(reports.office.days)
    for day, subject in zip(reports.office.days, reports.office.subjects, strict=True):
        assert subject.endswith(f": {2 * numbers.get(day, 0)} sent")


async def test_a_temporary_failure_is_tried_again_and_holds_no_other_day_back(reports: Reports) -> None:
    await reports.send(NOW - DAY)
    reports.office.recipient_answers = ["451 4.7.1 greylisted"]
    failed, sent = await reports.send(NOW + DAY)
    assert isinstance(failed.outcome, TemporaryFailure)
    assert isinstance(sent.outcome, Accepted)
    waiting = (await reports.rows())[1]
    assert waiting["last_error"] == "ops@example.org: 451 4.7.1 greylisted"
    assert NOW + DAY + MINUTE <= waiting["due_at"] < NOW + DAY + 2 * MINUTE
    assert await reports.send(NOW + DAY + MINUTE / 2) == []
    await reports.send(NOW + DAY + 2 * MINUTE)
    assert reports.office.days == ["2024-01-08", "2024-01-10", "2024-01-09"]
    assert all(row["sent_at"] and not row["last_error"] for row in await reports.rows())


async def spoil(db: Database, rows: Rows, *, at: datetime, text: str) -> None:
    """Add a mailing started at that time, whose text is the SQL expression `text`."""
    await rows.mailing("bad", status="finished", started_at=at)
    await db.run("ALTER TABLE mailing RENAME TO sound_mailing")
    await db.run(f"""
        CREATE VIEW mailing AS SELECT id, {text} AS text, status, deleted_at, test_of_mailing_id,
            started_at FROM sound_mailing
    """)  # fmt: skip


OUTAGE = """
    CREATE FUNCTION outage() RETURNS text STABLE LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION 'restarted' USING ERRCODE = 'admin_shutdown'; END $$
"""


@pytest.mark.parametrize(
    ("text", "kind", "level"),
    [
        ("(1 / (length(text) - 3))::text", "DivisionByZeroError", "error"),
        ("nullif(text, 'bad')", "TypeError", "error"),
        ("CASE text WHEN 'bad' THEN outage() ELSE text END", "AdminShutdownError", "warning"),
    ],
    ids=["figures", "rendering", "outage"],
)
async def test_a_day_that_can_not_be_made_is_a_recorded_failure_and_holds_no_other_day_back(
    reports: Reports, db: Database, rows: Rows, text: str, kind: str, level: str
) -> None:
    await reports.send(NOW)
    await db.run(OUTAGE)
    await spoil(db, rows, at=NOW + 2 * HOUR, text=text)
    with logged(reports.settings) as lines:
        for n in range(1, 5):
            await reports.send(NOW + n * DAY)
        assert {line["level"] for line in lines("report not rendered")} == {level}
    assert reports.office.days == ["2024-01-09", "2024-01-11", "2024-01-12", "2024-01-13"]
    bad = (await reports.rows())[1]
    expected = {"attempts": 4, "sent_at": None, "permanently_failed": False, "lease_until": None}
    assert bad.items() >= ({"day": date(2024, 1, 10)} | expected).items()
    assert bad["due_at"] >= NOW + 4 * DAY + 8 * MINUTE
    assert bad["last_error"].startswith(f"the report could not be rendered: {kind} in ")
    await db.run("DROP VIEW mailing")
    await db.run("ALTER TABLE sound_mailing RENAME TO mailing")
    await reports.send(NOW + 5 * DAY)
    assert reports.office.days[4:] == ["2024-01-10", "2024-01-14"]
    assert len(reports.office.mails) == 6


async def claimed(db: Database, settings: Settings, now: datetime) -> str | None:
    """Which day a worker took that died before it could say what came of it."""
    zone = ZoneInfo(settings.report_timezone)
    async with transaction(db.sessions) as session:
        await plan(session, settings, now=now)
        claim = await claim_oldest(session, oldest=oldest_wanted(now, zone), now=now)
    return str(claim.day) if claim else None


async def test_a_day_that_ends_its_worker_each_time_waits_longer_each_time_and_holds_no_other_back(
    reports: Reports, db: Database
) -> None:
    await reports.send(NOW - DAY)
    at = NOW + DAY
    for attempts, pause in enumerate(PAUSES, 1):
        assert await claimed(db, reports.settings, at) == "2024-01-09"
        await reports.send(at)
        waiting = (await reports.rows())[1]
        assert (waiting["attempts"], waiting["due_at"]) == (attempts, at + max(LEASE, pause))
        at = waiting["due_at"]
    assert reports.office.days == ["2024-01-08", "2024-01-10"]
    assert (await reports.rows())[1]["last_error"] == "the process that tried it was lost"


async def test_a_row_that_somebody_has_locked_holds_no_other_day_back(reports: Reports, db: Database) -> None:
    await reports.send(NOW - DAY)
    assert await reports.send(NOW, replace(reports.settings, report_time="23:00")) == []
    async with db.holding("SELECT FROM report WHERE day = '2024-01-09' FOR UPDATE"):
        await reports.send(NOW + DAY)
        assert reports.office.days == ["2024-01-08", "2024-01-10"]
    await reports.send(NOW + DAY)
    assert reports.office.days[2:] == ["2024-01-09"]


async def test_a_report_that_is_refused_for_good_holds_no_other_back_and_is_tried_again(reports: Reports) -> None:
    await reports.send(NOW - DAY)
    reports.office.data_answers = ["554 spam"]
    refused, accepted = await reports.send(NOW + DAY)
    assert isinstance(refused.outcome, PermanentFailure)
    assert isinstance(accepted.outcome, Accepted)
    await reports.send(NOW + DAY + 2 * MINUTE)
    assert reports.office.days == ["2024-01-08", "2024-01-10", "2024-01-09"]


async def test_the_pause_doubles_up_to_an_hour(reports: Reports, db: Database) -> None:
    down, now = replace(reports.settings, smtp_port=1), NOW
    for pause in PAUSES:
        await reports.send(now, down)
        [row] = await reports.rows()
        assert pause <= row["due_at"] - now < pause + MINUTE
        now = row["due_at"]
    await db.run("UPDATE report SET attempts = 999")
    await reports.send(now, down)
    [row] = await reports.rows()
    assert (row["attempts"], (row["due_at"] - now) // MINUTE) == (1000, 60)


async def test_a_mail_that_may_have_arrived_is_repeated_with_the_same_message_id(reports: Reports) -> None:
    reports.office.data_answers = [DROP]
    await reports.send(NOW)
    await reports.send(NOW + HOUR)
    first, second = (mail.message["Message-ID"] for mail in reports.office.mails)
    assert first == second
    assert first.startswith("<report.2024-01-09.")


async def test_two_installations_never_share_a_message_id(reports: Reports, db: Database) -> None:
    await reports.send(NOW)
    await db.run("DELETE FROM report")
    await reports.send(NOW)
    first, second = (mail.message["Message-ID"] for mail in reports.office.mails)
    assert first != second


async def test_only_the_recipients_who_had_to_wait_get_it_later(reports: Reports) -> None:
    chosen = replace(reports.settings, report_to="ops@example.org,slow@example.org")
    reports.office.recipient_answers = ["250 OK", "451 later"]
    [tried] = await reports.send(NOW, chosen)
    assert isinstance(tried.outcome, PartlyAccepted)
    assert (await reports.rows())[0]["sent_at"] is None
    await reports.send(NOW + HOUR, chosen)
    assert [mail.recipients for mail in reports.office.mails] == [["ops@example.org"], ["slow@example.org"]]
    assert (await reports.rows())[0]["delivered_to"] == ["ops@example.org", "slow@example.org"]


async def test_a_recipient_who_had_to_wait_and_was_taken_out_ends_the_waiting(reports: Reports) -> None:
    reports.office.recipient_answers = ["250 OK", "451 later"]
    await reports.send(NOW, replace(reports.settings, report_to="ops@example.org,slow@example.org"))
    await reports.send(NOW + HOUR)
    assert len(reports.office.mails) == 1
    assert (await reports.rows())[0]["sent_at"]


async def test_a_day_never_tried_follows_a_change_of_the_time(reports: Reports) -> None:
    assert await reports.send(NOW, replace(reports.settings, report_time="21:00")) == []
    await reports.send(NOW)
    assert reports.office.days == ["2024-01-09"]


async def test_no_transaction_and_no_connection_is_held_while_the_mail_server_is_spoken_to(
    reports: Reports, db: Database, database_url: str
) -> None:
    claimed: list[asyncpg.Record] = []

    async def look() -> None:
        assert "Current Checked out connections: 0" in db.engine.pool.status()
        connection = await asyncpg.connect(database_url)
        claimed.extend(await connection.fetch("SELECT attempts, lease_until FROM report"))
        await connection.close()

    reports.office.during_data = look
    await reports.send(NOW)
    assert claimed == [(1, NOW + LEASE)]
    assert len(reports.office.mails) == 1


async def test_a_database_that_is_away_when_the_mail_was_accepted_causes_no_repeat(
    reports: Reports, db: Database, database_url: str
) -> None:
    admin = await asyncpg.connect(os.environ["MAILING_TEST_DATABASE_URL"])
    name = database_url.partition("?")[0].rpartition("/")[2]
    back: list[asyncio.Task[object]] = []

    async def come_back() -> None:
        await asyncio.sleep(0.5)
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")

    async def go_away() -> None:
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        back.append(asyncio.create_task(come_back()))

    reports.office.during_data = go_away
    await send_next(db.sessions, reports.settings, now=NOW)
    reports.office.during_data = None
    await asyncio.gather(*back)
    await admin.close()
    await reports.send(NOW + LEASE)
    assert len(reports.office.mails) == 1


async def test_a_report_whose_commit_is_cut_off_is_recorded_once(reports: Reports, db: Database) -> None:
    async with (
        proxy(reports.settings) as (between, through),
        open_engine(str(through.database_url), application="tests") as cut,
    ):
        between.cut_after = (b"SET sent_at", b"COMMIT")
        tried = await send_next(sessions_of(cut), through, now=NOW)
    assert tried
    assert tried.outcome == Accepted(["ops@example.org"])
    assert not between.cut_after
    assert len(reports.office.mails) == 1
    assert await db.run("SELECT attempts, delivered_to FROM report") == [(1, ["ops@example.org"])]


async def test_the_worker_asks_the_database_what_time_it_is(reports: Reports, db: Database) -> None:
    for _ in range(2):
        await send_missing(db.sessions, replace(reports.settings, report_time="00:00"))
    assert reports.office.days == [str(datetime.now(UTC).date() - DAY)]

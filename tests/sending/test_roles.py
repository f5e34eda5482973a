"""Each process with its own database role: it can do its work, and not what it needn't."""

import asyncio
import re

import asyncpg
import pytest
from msgspec.structs import replace

from mailing.clients.upload.job import import_upload, maintain_uploads
from mailing.clients.upload.schemas import UploadStatus
from mailing.messages.counter_audit import audit_counts
from mailing.observability.counters import CALLS, WorkerCounters
from mailing.privacy.retention import delete_old_events, redact_old
from mailing.reports.jobs import send_missing
from mailing.sending.sweep import sweep
from mailing.settings import Settings
from mailing.worker import policy_of
from support.campaign import Campaign
from support.database import Database, open_database
from support.mail_server import open_post_office
from support.roles import NAMES, ROLES, url_as
from support.uploads import confirmed, file_of, upload_of

FORBIDDEN = {
    "mailing_api": (
        "DELETE FROM api_key",
        "DELETE FROM mailing",
        "UPDATE report SET sent_at = now()",
        "DELETE FROM procrastinate_jobs",
        "SELECT forget_events(1, 0, 100)",
        "UPDATE installation SET receipt_key = receipt_key",
        "INSERT INTO erasure SELECT FROM erasure",
        "DELETE FROM user_account",
        "UPDATE alembic_version SET version_num = 'x'",
    ),
    "mailing_worker": (
        "SELECT hash FROM api_key",
        "SELECT password_hash FROM user_account",
        "SELECT FROM user_session",
        "SELECT FROM login_throttle",
        "SELECT FROM api_rate_limit",
        "INSERT INTO api_key SELECT FROM api_key",
        "DELETE FROM client",
        "UPDATE client SET opted_out = false",
        "UPDATE client SET phone = ''",
    ),
}
LONG_OVER = """
    UPDATE mailing SET status = 'finished',
        starts_at = now() - interval '41 days', ends_at = now() - interval '40 days',
        finished_at = now() - interval '40 days', updated_at = now() - interval '40 days'"""
BOTH = (
    "DELETE FROM message",
    "DELETE FROM event",
    "UPDATE event SET actor = 'nobody'",
    "INSERT INTO restoration (database_identity) VALUES ('here')",
    "DELETE FROM erasure",
    "DELETE FROM suppression",
    "INSERT INTO suppression SELECT FROM suppression",
    "ALTER TABLE message DISABLE TRIGGER ALL",
    "DROP TABLE client",
    "CREATE TABLE mine (id int)",
    "TRUNCATE message",
    "CREATE OR REPLACE FUNCTION check_transitions() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
)


@pytest.mark.parametrize(
    ("role", "statement"), [(role, statement) for role in NAMES for statement in (*FORBIDDEN[role], *BOTH)]
)
async def test_a_role_can_not_do_what_its_process_need_not(database_url: str, role: str, statement: str) -> None:
    connection = await asyncpg.connect(url_as(role, database_url))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(statement)
    await connection.close()


async def test_with_their_own_roles_api_and_worker_send_a_mailing_and_all_that_people_do_to_it(
    capfd: pytest.CaptureFixture[str], campaign: Campaign
) -> None:
    api = campaign.api
    async with campaign.working(report_to="ops@example.org", report_time="00:00", smtp_port=1):
        clients = await campaign.clients(20)
        await campaign.sandbox.behave(error_500=0.2)
        mailing_id = await campaign.mailing()
        assert await campaign.finished(mailing_id) == {"planned": 20, "sent": 20}
        later = await campaign.mailing(starts_in_s=600)
        for step in ("pause", "resume", "cancel"):
            assert (await api.post(f"/mailings/{later}/{step}")).status_code in {200, 409}
        key = {"Idempotency-Key": "one"}
        csv = "phone,timezone,opted_out\r\n79169999999,UTC,\r\n79168888888,,yes\r\n"
        assert (await api.post("/clients/import", content=csv, headers=key)).status_code == 200
        assert (await api.patch(f"/clients/{clients[0]}/", json={"opted_out": True})).status_code == 200
        assert (await api.delete(f"/clients/{clients[1]}/")).status_code == 204
        assert (await api.patch("/gateway/", json={"rate": 50})).status_code == 200
    assert "permission denied" not in "".join(capfd.readouterr())


async def test_what_a_worker_does_from_time_to_time_needs_no_more_than_its_role(
    settings: Settings, db: Database
) -> None:
    await db.add_mailing_of(["sent", "failed"], text="Your code is 1234")
    await db.run(LONG_OVER)
    await db.run("INSERT INTO event (at, kind, actor) VALUES (now() - interval '40 days', 'client.changed', 'tests')")
    upload = await confirmed(db, file_of(10, bad=1))
    opt_outs = await confirmed(db, b"phone,opted_out\n79160000001,yes\n79039999999,yes\n")
    async with open_post_office() as office:
        reporting = replace(
            settings, retention_days=30, report_to="ops@example.org", report_time="00:00", smtp_port=office.port
        )
        async with open_database(url_as("mailing_worker", str(settings.database_url)), pool_size=2) as restricted:
            own = restricted.sessions
            await redact_old(own, reporting)
            await delete_old_events(own, reporting)
            await audit_counts(own)
            await import_upload(own, asyncio.Event(), upload)
            await import_upload(own, asyncio.Event(), opt_outs)
            await maintain_uploads(own)
            await send_missing(own, reporting)
            await sweep(own, policy_of(reporting))
            tallies = WorkerCounters()
            tallies.add(CALLS, "accepted")
            await tallies.flush(own)
    assert await db.value("SELECT actor FROM event WHERE kind = 'mailing.redacted'") == "retention"
    assert "client.changed" not in await db.kinds()
    assert await db.value("SELECT sum(drift) FROM counter_audit") == 0
    assert [(await upload_of(db, each)).status for each in (upload, opt_outs)] == [UploadStatus.done] * 2
    assert await db.value("SELECT opted_out FROM upload ORDER BY id DESC LIMIT 1") == 2
    assert await db.value("SELECT count(*) FROM worker_counter") == 1
    assert await db.value("SELECT count(*) FROM report WHERE sent_at IS NOT NULL") == len(office.mails)


async def test_every_table_of_the_schema_has_its_place_in_the_roles(db: Database) -> None:
    tables = await db.value(
        "SELECT array_agg(relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    )
    named = set(re.findall(r"[a-z_]+", re.sub("--.*", "", ROLES.read_text("utf-8"))))
    assert set(tables) - named == set()

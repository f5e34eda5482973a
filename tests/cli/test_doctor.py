"""`mailing doctor` names what is wrong and the remedy, changes nothing, and shows no secret."""

import asyncio
import base64
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mailing.cli import database_checks
from mailing.cli.doctor import print_findings, run_checks
from mailing.cli.findings import Finding, line
from mailing.database import lock_waits
from mailing.database.migrations import migrate
from mailing.gateway.sandbox.app import running
from mailing.gateway.sandbox.behaviour import Behaviour
from mailing.settings import Settings, environment
from mailing.timezones import iana_version
from support.commands import mailing
from support.database import LOCK_WAITS, Database
from support.processes import clean_environment

NOWHERE = "127.0.0.1:1"


async def found(tmp_path: Path, **settings: object) -> dict[str, Finding]:
    told = environment(Settings(**({"data_dir": str(tmp_path / "none")} | settings)))  # type: ignore[arg-type] # values of several types
    return {finding.part: finding async for finding in run_checks(told, tmp_path / ".env")}


@pytest.fixture
async def gateway_url() -> AsyncIterator[str]:
    async with running("127.0.0.1", 0, Behaviour()) as port:
        yield f"http://127.0.0.1:{port}/v1"


async def test_a_sound_service_is_found_sound(
    tmp_path: Path, database_url: str, db: Database, gateway_url: str
) -> None:
    await db.run("INSERT INTO procrastinate_workers DEFAULT VALUES")
    findings = await found(tmp_path, database_url=database_url, gateway_url=gateway_url)
    sound = ("configuration", "time zones", "database", "disk", "clock", "locks", "schema", "queue", "sending")
    verdicts = {part: finding.verdict for part, finding in findings.items()}
    assert verdicts == dict.fromkeys((*sound, "failover", "gateway", "provider"), "ok") | {"mail": "warn"}
    assert "PostgreSQL" in line(findings["database"])
    assert iana_version() in line(findings["time zones"])


async def test_every_setting_that_is_wrong_is_named_at_once_and_no_value(tmp_path: Path) -> None:
    told = {"MAILING_PORT": "a-secret", "MAILING_PROT": "1"}
    findings = [finding async for finding in run_checks(told, tmp_path / ".env")]
    assert [finding.verdict for finding in findings] == ["fail", "fail"]
    assert "a-secret" not in "".join(map(line, findings))


async def test_what_does_not_answer_is_named_with_a_remedy(tmp_path: Path) -> None:
    away = {"database_url": f"postgresql://nobody:a-secret@{NOWHERE}/x", "gateway_url": f"http://{NOWHERE}/v1"}
    findings = await found(tmp_path, **away, report_to="ops@example.org", smtp_port=1)
    assert {part for part, finding in findings.items() if finding.verdict == "fail"} == {"database", "gateway", "mail"}
    assert all(finding.remedy for finding in findings.values() if finding.verdict == "fail")
    assert f"PostgreSQL at {NOWHERE}" in findings["database"].detail
    assert "a-secret" not in "".join(map(line, findings.values()))


async def test_a_database_that_only_reads_is_told(tmp_path: Path, database_url: str) -> None:
    frozen = f"{database_url}&options=-c%20default_transaction_read_only%3Don"
    finding = (await found(tmp_path, database_url=frozen))["database"]
    assert finding.verdict == "fail"
    assert "read-only" in finding.detail


async def test_a_full_disk_is_told(tmp_path: Path, database_url: str, db: Database) -> None:
    full = "RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'"
    await db.run(f"CREATE FUNCTION fill() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN {full}; END $$")
    await db.run("CREATE EVENT TRIGGER fill ON ddl_command_start EXECUTE FUNCTION fill()")
    findings = await found(tmp_path, database_url=database_url)
    await db.run("DROP EVENT TRIGGER fill")
    assert findings["disk"].verdict == "fail"
    assert "No space left on device" in findings["disk"].detail
    assert findings["schema"].verdict == "ok", "the other checks go on"


@pytest.mark.parametrize(
    ("lock", "held"), [("LOCK TABLE mailing_release", " on mailing_release"), ("UPDATE gateway SET rate = 1", "")]
)
async def test_a_lock_that_others_wait_for_is_told_with_its_holder(
    tmp_path: Path, database_url: str, db: Database, monkeypatch: pytest.MonkeyPatch, lock: str, held: str
) -> None:
    monkeypatch.setattr(lock_waits, "MIN_WAIT_S", 0.0)
    async with db.engine.begin() as holder:
        pid = (await holder.exec_driver_sql("SELECT pg_backend_pid()")).scalar_one()
        await holder.exec_driver_sql(lock)
        waiting = asyncio.create_task(db.run("UPDATE gateway SET rate = (SELECT count(*) FROM mailing_release)"))
        await db.comes(LOCK_WAITS, 1)
        finding = (await found(tmp_path, database_url=database_url))["locks"]
    await waiting
    assert finding.verdict == "fail"
    assert f"holds a lock{held}; statements that wait for it: 1" in finding.detail
    assert f"pg_terminate_backend({pid})" in finding.remedy


async def test_a_locked_table_ends_the_checks_and_not_by_the_time_limit(
    tmp_path: Path, database_url: str, db: Database
) -> None:
    async with db.engine.begin() as holder:
        await holder.exec_driver_sql("LOCK TABLE message")
        findings = await found(tmp_path, database_url=database_url)
    assert "a lock on message" in findings["locks"].detail
    assert findings["database"].detail == "a locked table kept the other checks waiting"


async def test_no_transaction_stays_open_when_the_reader_of_the_findings_goes_away(
    tmp_path: Path, database_url: str, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", clean_environment(MAILING_DATABASE_URL=database_url))

    def echo(shown: str) -> None:
        if "clock" in shown:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        await print_findings(tmp_path / ".env", echo)
    transactions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start < now()"
    assert await db.value(transactions) == 0


async def test_a_lock_of_a_prepared_transaction_is_told(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The servers of tests allow none."""

    async def prepared(_session: object) -> lock_waits.Blocker:
        return lock_waits.Blocker(0, None, None, None, 1, 9.0)

    monkeypatch.setattr(database_checks, "find_blocker", prepared)
    finding = (await found(tmp_path, database_url=database_url))["locks"]
    assert "a prepared transaction holds a lock; statements that wait for it: 1" in finding.detail
    assert "ROLLBACK PREPARED" in finding.remedy


async def test_a_commit_that_hangs_is_told(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_checks, "COMMIT_S", 0)
    findings = await found(tmp_path, database_url=database_url)
    assert findings["commit"].verdict == "fail"
    assert "so nothing is sent" in findings["commit"].detail
    assert findings["schema"].verdict == "ok", "the other checks go on"


async def test_another_schema_is_not_mended(tmp_path: Path, database_url: str, db: Database) -> None:
    await migrate(db.engine, "base")
    findings = await found(tmp_path, database_url=database_url)
    assert findings["schema"].verdict == "fail"
    assert "mailing migrate" in findings["schema"].remedy
    assert await db.value("SELECT to_regclass('message') IS NULL")


@pytest.mark.parametrize(
    ("change", "verdict", "word"),
    [
        ("installation SET database_identity = 'elsewhere'", "fail", "restored"),
        ("gateway SET stopped_at = now(), stopped_by = 'key 1 (ops)'", "warn", "key 1 (ops)"),
        (
            """gateway SET breaker_opened_at = now(), breaker_next_probe_at = now(),
                breaker_reason_code = 'configuration', breaker_reason_params = '{"http_status" : 401}'""",
            "fail",
            "HTTP 401",
        ),
        ("gateway SET paused_until = now() + interval '1 min'", "warn", "pause"),
        ("message SET due_at = now() - interval '90 s'", "fail", "messages have been due"),
    ],
)
async def test_what_holds_sending_back_is_told(
    tmp_path: Path, database_url: str, db: Database, change: str, verdict: str, word: str
) -> None:
    await db.add_mailing_of(["pending"])
    await db.run("UPDATE mailing SET updated_at = now() - interval '1 h'")
    await db.run(f"UPDATE {change}")
    findings = await found(tmp_path, database_url=database_url)
    assert findings["sending"].verdict == verdict
    assert word in findings["sending"].detail
    assert findings["queue"].verdict == "fail", "no worker is running"


@pytest.mark.parametrize(
    ("told", "finding"),
    [
        (("restore", "undeclared"), ("ok", "nothing is sent until mailing resume-after-restore")),
        (("lossless", "ready"), ("ok", "would resume")),
        (("lossless", "asynchronous"), ("warn", "did not wait for a standby")),
        (("lossless", "undeclared"), ("warn", "MAILING_FAILOVER is restore")),
    ],
)
async def test_what_would_become_of_a_failover_is_told(
    tmp_path: Path, database_url: str, db: Database, told: tuple[str, str], finding: tuple[str, str]
) -> None:
    await db.run("INSERT INTO witness VALUES (gen_random_uuid(), 'worker', 1, :verdict, now())", verdict=told[1])
    here = (await found(tmp_path, database_url=database_url, failover=told[0]))["failover"]
    assert here.verdict == finding[0]
    assert finding[1] in here.detail


async def test_a_report_that_was_tried_in_vain_is_told_with_its_reason(
    tmp_path: Path, database_url: str, db: Database
) -> None:
    wanted = {"database_url": database_url, "report_to": "ops@example.org", "smtp_port": 1}
    assert (await found(tmp_path, **wanted))["reports"].verdict == "ok"
    add = """INSERT INTO report (day, zone, starts, ends, due_at, attempts, last_error)
        SELECT day, 'UTC', day, day + 1, now(), 3, :why
        FROM (SELECT current_date - CAST(:ago AS int) AS day) reported"""
    await db.run(add, ago=2, why="ops@example.org: 451 later")
    bug = "the report could not be rendered: KeyError in render_html; see the log of the process"
    await db.run(add, ago=1, why=bug)
    finding = (await found(tmp_path, **wanted))["reports"]
    assert finding.verdict == "fail"
    assert "not sent: 2" in finding.detail
    assert "was tried 3 times: o***@example.org: 451 later" in finding.detail
    assert "mailing report --date" in finding.remedy


@pytest.mark.parametrize(
    ("lasts_s", "verdict"), [(-60, "fail"), (3600, "warn"), (30 * 86_400, "ok")], ids=["over", "soon", "long"]
)
async def test_a_gateway_token_tells_when_it_expires(
    tmp_path: Path, gateway_url: str, lasts_s: int, verdict: str
) -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": time.time() + lasts_s}).encode()).decode().rstrip("=")
    findings = await found(tmp_path, gateway_url=gateway_url, gateway_token=f"e30.{claims}.sig")
    assert findings["gateway token"].verdict == verdict
    assert claims not in line(findings["gateway token"])


@pytest.mark.slow
@pytest.mark.xdist_group("commands")
def test_the_command_says_it_all_and_its_exit_code_the_rest(tmp_path: Path) -> None:
    told = {"MAILING_DATABASE_URL": f"postgresql://nobody@{NOWHERE}/x", "PATH": ""}
    done = mailing("doctor", cwd=tmp_path, env=told)
    assert done.returncode == 1
    assert "fail   database" in done.stdout
    assert done.stderr == ""


async def test_any_other_token_is_left_alone(tmp_path: Path, gateway_url: str) -> None:
    for token in ("sandbox", "a.b.c", "e30.e30.e30", "e30.eyJleHAiOiJ4In0.x"):
        assert "gateway token" not in await found(tmp_path, gateway_url=gateway_url, gateway_token=token)


async def test_a_provider_says_what_it_needs_and_what_it_promises(tmp_path: Path) -> None:
    lacking = await found(tmp_path, gateway_provider="kannel")
    assert lacking["provider"].verdict == "fail"
    assert "kannel needs MAILING_GATEWAY_USER and MAILING_GATEWAY_TOKEN" in line(lacking["provider"])
    account = {"gateway_provider": "kannel", "gateway_user": "mailing", "gateway_token": "a-secret"}
    async with running("127.0.0.1", 0, Behaviour(), provider="kannel", token="a-secret") as port:
        url = f"http://127.0.0.1:{port}"
        silent = await found(tmp_path, gateway_url=url, **account)
        wrong = await found(tmp_path, gateway_url=url, **account | {"gateway_token": "another-secret"})
        reported = await found(tmp_path, gateway_url=url, public_url="https://mailing.example.org", **account)
    assert silent["provider"].verdict == "warn"
    assert "is parked as unknown; receipts are off" in line(silent["provider"])
    assert reported["provider"].verdict == reported["credentials"].verdict == "ok"
    assert "receipts come to https://mailing.example.org" in line(reported["provider"])
    assert wrong["credentials"].verdict == "fail"
    assert "another-secret" not in "".join(map(line, wrong.values()))

"""A restored backup: nothing is sent from it until an operator says so, and no id is used again."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from mailing.cli import resume_after_restore
from mailing.cli.resume_after_restore import Options, mark_ambiguous, pause_mailings, raise_ids, resume
from mailing.database.engine import transaction
from mailing.job_queue.enqueue import defer
from mailing.reasons.codes import Reason, ReasonCode, words_of
from mailing.sending.plan import plan_mailing
from support.campaign import Campaign
from support.processes import becomes

pytestmark = pytest.mark.slow

BEYOND = 10**12
DOUBTS = "SELECT count(*), count(DISTINCT message_id) FROM attempt WHERE reason_code = 'restored'"
ADD_MESSAGE = """
    INSERT INTO message (mailing_id, client_id, due_at, closes_at) VALUES (1, 1000, now(), now()) RETURNING id"""


@dataclass(frozen=True)
class Backups:
    """Of the test's own database; `restore` puts the backup in its place, under the same name."""

    name: str
    url: str
    admin: asyncpg.Connection
    directory: Path

    async def copy(self) -> None:
        await self._everybody_out()
        await self.admin.execute(f"CREATE DATABASE {self.name}_copy TEMPLATE {self.name} STRATEGY file_copy")
        await self.admin.execute(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS true")

    async def put_back_copy(self) -> None:
        await self.admin.execute(f"DROP DATABASE {self.name} WITH (FORCE)")
        await self.admin.execute(f"ALTER DATABASE {self.name}_copy RENAME TO {self.name}")

    async def dump(self) -> None:
        """By programs that are as new as the server: an older pg_dump refuses it."""
        program = subprocess.run(["pg_dump", "--version"], capture_output=True, text=True, check=True)  # noqa: S607 - wherever it lies
        server = int(await self.admin.fetchval("SHOW server_version_num")) // 10_000
        if int(program.stdout.split()[2].partition(".")[0]) < server:
            pytest.skip(f"{program.stdout.strip()} can't read a PostgreSQL {server}")
        await self._run("pg_dump", "-Fc", "-f", str(self.directory / "dump"), self.url)

    async def put_back_dump(self) -> None:
        await self.admin.execute(f"DROP DATABASE {self.name} WITH (FORCE)")
        await self.admin.execute(f"CREATE DATABASE {self.name} TEMPLATE template0")
        await self._run("pg_restore", "-d", self.url, str(self.directory / "dump"))

    async def _everybody_out(self) -> None:
        await self.admin.execute(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS false")
        await self.admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", self.name)

    async def _run(self, *command: str) -> None:
        await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)


Way = tuple[Callable[[Backups], Awaitable[None]], Callable[[Backups], Awaitable[None]]]
COPY: Way = (Backups.copy, Backups.put_back_copy)
DUMP: Way = (Backups.dump, Backups.put_back_dump)
needs_clients = pytest.mark.skipif(not shutil.which("pg_dump"), reason="pg_dump and pg_restore are not on PATH")


@pytest.fixture
async def backups(database_url: str, tmp_path: Path) -> AsyncIterator[Backups]:
    name = urlsplit(database_url).path[1:]
    admin = await asyncpg.connect(os.environ["MAILING_TEST_DATABASE_URL"])
    yield Backups(name, database_url, admin, tmp_path)
    await admin.execute(f"DROP DATABASE IF EXISTS {name}_copy WITH (FORCE)")
    await admin.close()


@dataclass(frozen=True)
class Restored:
    """`planned` was unsent at the backup and sent after it."""

    campaign: Campaign
    planned: int

    async def resume(self, *, hold: bool = False, forced: bool = False) -> list[str]:
        said: list[str] = []
        await resume(self.campaign.db.sessions, Options(hold=hold, echo=said.append, forced=forced))
        return said


async def _restored(campaign: Campaign, backups: Backups, way: Way = COPY) -> Restored:
    """One mailing is planned, then comes the backup, then it is sent, then the backup takes the database's place."""
    await campaign.clients(30)
    mailing = await campaign.mailing()
    await plan_mailing(campaign.db.sessions, mailing)
    take, put_back = way
    await take(backups)
    async with campaign.working():
        assert await campaign.finished(mailing) == {"planned": 30, "sent": 30}
    await put_back(backups)
    return Restored(campaign, mailing)


@pytest.fixture
async def restored(campaign: Campaign, backups: Backups, request: pytest.FixtureRequest) -> Restored:
    return await _restored(campaign, backups, getattr(request, "param", COPY))


@pytest.mark.parametrize(
    "restored", [COPY, pytest.param(DUMP, marks=needs_clients)], ids=["template", "pg_dump"], indirect=True
)
async def test_a_restored_database_sends_nothing_until_told_and_then_the_rest_under_the_same_ids(
    campaign: Campaign, restored: Restored
) -> None:
    before = await campaign.sandbox.ledger()
    async with campaign.working():
        await _woken_in_vain(campaign, restored.planned)
        assert await campaign.sandbox.ledger() == before
        said = await restored.resume()
        assert await campaign.finished(restored.planned) == {"planned": 30, "sent": 30}
        later = await campaign.mailing()
        assert await campaign.finished(later) == {"planned": 30, "sent": 30}
    assert f"mailing {restored.planned}: 30 messages unsent in the backup may have been sent since" in "\n".join(said)
    ledger = await campaign.sandbox.ledger()
    assert {(item["id"], item["repeats"]) for item in ledger[30:60]} == {(item["id"], 1) for item in before}
    assert {item["id"] for item in ledger[60:]} == set(range(BEYOND, BEYOND + 30))
    assert later == 10**9


async def test_with_hold_what_may_have_been_sent_is_parked_and_says_why(campaign: Campaign, restored: Restored) -> None:
    before = await campaign.sandbox.ledger()
    await restored.resume(hold=True)
    async with campaign.working():
        assert await campaign.finished(restored.planned) == {"planned": 30, "unknown": 30}
    assert await campaign.sandbox.ledger() == before
    (first, *_) = await campaign.messages(restored.planned)
    story = (await campaign.api.get(f"/messages/{first['id']}/")).json()
    assert story["status_reason"] == words_of(Reason(ReasonCode.restored))
    assert [(item["number"], item["outcome"], item["reason_code"]) for item in story["history"]] == [
        (1, "ambiguous", "restored")
    ]


async def test_a_call_that_was_under_way_at_the_backup_is_an_attempt_too(
    campaign: Campaign, restored: Restored
) -> None:
    (message, *_) = await campaign.db.run("""
        UPDATE message SET status = 'sending', claim_no = 4, counted_attempts = 3, phone = '79990000000',
            text_revision = 1,
            lease_until = now() + interval '1 min' WHERE id = (SELECT min(id) FROM message) RETURNING id""")
    await restored.resume()
    history = "SELECT number, outcome FROM attempt WHERE message_id = :id ORDER BY 1"
    assert await campaign.db.run(history, id=message.id) == [(4, "ambiguous"), (5, "ambiguous")]
    state = "SELECT status, counted_attempts, phone FROM message WHERE id = :id"
    assert await campaign.db.run(state, id=message.id) == [("pending", 5, "79990000000")]


async def test_a_mailing_that_should_have_begun_since_the_backup_is_paused_for_an_operator(
    campaign: Campaign, backups: Backups
) -> None:
    """Its messages went out under ids that the backup doesn't know."""
    scheduled = await campaign.mailing(starts_in_s=3600, lasts_s=7200)
    restored = await _restored(campaign, backups)
    await campaign.db.run("UPDATE mailing SET starts_at = now() - interval '1 min' WHERE id = :id", id=scheduled)
    before = await campaign.sandbox.ledger()
    async with campaign.working():
        await _woken_in_vain(campaign, scheduled)
        assert (await campaign.statistics(scheduled))["launched"] is False
        said = await restored.resume()
        await campaign.shows(scheduled, planned=30, pending=30)
        assert await campaign.finished(restored.planned) == {"planned": 30, "sent": 30}
        assert (await campaign.statistics(scheduled))["status"] == "paused"
        assert {item["id"] for item in await campaign.sandbox.ledger()} == {item["id"] for item in before}
        await campaign.api.post(f"/mailings/{scheduled}/resume")
        assert await campaign.finished(scheduled) == {"planned": 30, "sent": 30}
    assert any(line.startswith(f"mailing {scheduled}: paused, its recipients") for line in said)
    assert {message["id"] for message in await campaign.messages(scheduled)} == set(range(BEYOND, BEYOND + 30))


async def test_a_mailing_whose_audience_was_being_written_down_at_the_backup_is_paused(
    campaign: Campaign, restored: Restored
) -> None:
    await campaign.db.run("UPDATE mailing SET planned_revision = 0 WHERE id = :id", id=restored.planned)
    await restored.resume()
    assert (await campaign.statistics(restored.planned))["status"] == "paused"


async def test_jobs_that_were_under_way_at_the_backup_hinder_nobody(campaign: Campaign, restored: Restored) -> None:
    """Their workers are gone, and no job of the same kind may wait for them."""
    await campaign.db.run("UPDATE procrastinate_jobs SET status = 'doing'")
    async with campaign.working():
        await restored.resume()
        assert await campaign.finished(restored.planned) == {"planned": 30, "sent": 30}


@pytest.mark.parametrize("steps", [1, 2, 3])
async def test_a_resume_that_was_interrupted_is_run_again_and_does_nothing_twice(
    campaign: Campaign, restored: Restored, steps: int
) -> None:
    plan = Options(hold=False, echo=lambda _: None)
    began_at = await raise_ids(campaign.db.sessions, plan)
    if steps > 1:
        await mark_ambiguous(campaign.db.sessions, plan, began_at)
    if steps > 2:
        await pause_mailings(campaign.db.sessions, plan)
    assert await _is_restored(campaign)
    await restored.resume()
    assert not await _is_restored(campaign)
    assert await campaign.db.run(DOUBTS) == [(30, 30)]
    assert await _next_ids(campaign) == [BEYOND, 10**9, 10**9]
    assert await campaign.db.run("SELECT count(*), count(finished_at) FROM restoration") == [(1, 1)]


async def test_each_restore_raises_the_ids_again_though_none_was_used(
    campaign: Campaign, restored: Restored, backups: Backups
) -> None:
    """The backup may have been taken right after the last resume, and ids been used after the backup."""
    await restored.resume()
    await backups.copy()
    await backups.put_back_copy()
    await restored.resume()
    assert await _next_ids(campaign) == [2 * BEYOND, 2 * 10**9, 2 * 10**9]
    assert await campaign.db.run(DOUBTS) == [(60, 30)]


async def test_a_dry_run_says_the_same_and_changes_nothing(campaign: Campaign, restored: Restored) -> None:
    now = await campaign.db.value("SELECT now()")
    # The API has looked, and has recorded that the database was rolled back, if it has found so.
    await campaign.until_found("SELECT 1 FROM witness WHERE kind = 'api' AND seen_at > :now", now=now)
    before = await _everything(campaign)
    said: list[str] = []
    await resume_after_restore.forecast(campaign.db.sessions, Options(hold=False, echo=said.append))
    assert await _everything(campaign) == before
    assert said[:-1] == (await restored.resume())[:-1]


async def test_a_database_that_was_not_restored_is_left_alone_unless_somebody_knows_better(campaign: Campaign) -> None:
    restored = Restored(campaign, 0)
    before = await _everything(campaign)
    assert await restored.resume() == ["This database was not restored from a backup. Nothing to do."]
    assert await _everything(campaign) == before
    assert (await restored.resume(forced=True))[-1] == "Sending is enabled."
    assert await _next_ids(campaign) == [BEYOND, 10**9, 10**9]
    assert await campaign.db.run("SELECT kind, actor FROM event") == [
        ("database.resumed_after_restore", "command line")
    ]


@pytest.mark.parametrize("change", ["cancel", "delete", "end"])
async def test_in_a_restored_database_no_mailing_ends_as_if_it_had_never_been_sent(
    campaign: Campaign, restored: Restored, change: str
) -> None:
    before = await campaign.sandbox.ledger()
    if change == "cancel":
        assert (await campaign.api.post(f"/mailings/{restored.planned}/cancel")).json()["status"] == "cancelled"
    elif change == "delete":
        assert (await campaign.api.delete(f"/mailings/{restored.planned}/")).status_code == 204
    else:
        await campaign.db.run("UPDATE mailing SET ends_at = now() WHERE id = :id", id=restored.planned)
    async with campaign.working():
        await _woken_in_vain(campaign, restored.planned)
        assert await _statuses(campaign, restored.planned) == {"pending": 30}
        await restored.resume()
        await becomes(lambda: _statuses(campaign, restored.planned), {"unknown": 30})
    assert await campaign.sandbox.ledger() == before


async def test_whoever_opts_out_or_goes_from_a_restored_database_is_not_sent_to_again(
    campaign: Campaign, restored: Restored
) -> None:
    """Their opt-outs since the backup are lost with it: they are entered again before sending is resumed."""
    opted_out, gone, *_ = [row.id for row in await campaign.db.run("SELECT id FROM client ORDER BY id")]
    assert (await campaign.api.patch(f"/clients/{opted_out}/", json={"opted_out": True})).status_code == 200
    assert (await campaign.api.delete(f"/clients/{gone}/")).status_code == 204
    assert await campaign.counts(restored.planned) == {"planned": 30, "pending": 30}
    async with campaign.working():
        await restored.resume()
        assert await campaign.finished(restored.planned) == {"planned": 30, "sent": 28, "unknown": 2}
    messages = await campaign.messages(restored.planned)
    assert {message["client_id"] for message in messages if message["status"] == "unknown"} == {opted_out, gone}
    assert len(await campaign.sandbox.ledger()) == 30 + 28


async def test_a_paused_mailing_is_still_paused_when_sending_is_resumed(campaign: Campaign, restored: Restored) -> None:
    before = await campaign.sandbox.ledger()
    assert (await campaign.api.post(f"/mailings/{restored.planned}/pause")).status_code == 200
    await restored.resume()
    async with campaign.working():
        await _woken_in_vain(campaign, restored.planned)
        assert await _statuses(campaign, restored.planned) == {"pending": 30}
    assert await campaign.sandbox.ledger() == before


async def test_no_message_gets_an_id_in_a_restored_database(campaign: Campaign, restored: Restored) -> None:
    with pytest.raises(DBAPIError, match="run mailing resume-after-restore"):
        await campaign.db.run(ADD_MESSAGE)
    await restored.resume()
    assert await campaign.db.value(ADD_MESSAGE) == BEYOND


async def _woken_in_vain(campaign: Campaign, mailing: int) -> None:
    """Every job that could move the mailing has run."""
    async with transaction(campaign.db.sessions) as session:
        for task in ("plan_mailing", "settle_mailing"):
            await defer(session, task, mailing_id=mailing)
        await defer(session, "send_mailing", mailing_id=mailing, lane=0)
    pending = "SELECT 1 FROM procrastinate_jobs WHERE task_name LIKE '%_mailing' AND scheduled_at IS NULL"
    await becomes(lambda: campaign.db.run(pending), [])


async def _statuses(campaign: Campaign, mailing: int) -> dict[str, int]:
    """Of a deleted mailing too."""
    found = await campaign.db.run("SELECT status, count(*) FROM message WHERE mailing_id = :id GROUP BY 1", id=mailing)
    return {row[0]: row[1] for row in found}


async def _is_restored(campaign: Campaign) -> bool:
    return bool(await campaign.db.value("SELECT database_identity <> database_identity() FROM installation"))


async def _next_ids(campaign: Campaign) -> list[int]:
    tables = ("message", "mailing", "client")
    return [await campaign.db.value(f"SELECT last_value FROM {table}_id_seq") for table in tables]


async def _everything(campaign: Campaign) -> list[Any]:
    tables = ("gateway", "mailing", "message", "attempt", "event", "restoration", "message_id_seq", "mailing_id_seq")
    return [[tuple(row) for row in await campaign.db.run(f"SELECT * FROM {table} ORDER BY 1")] for table in tables]

"""Failovers: a database that has lost nothing goes on by itself, one that has sends no more. Two real servers."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from mailing.cli.resume_after_restore import Options, resume, resume_without_loss
from mailing.database.errors import DATABASE_ERRORS
from mailing.errors import MailingError
from mailing.mailings.after_restore import wake_started
from mailing.restore.witness import GRACE_S, MAX_AGE_S, FailoverVerdict, Witness
from support.database import Database, open_database
from support.failover import Pair, running_pair
from support.postgres import Cluster

pytestmark = [pytest.mark.xdist_group("failover"), pytest.mark.slow]

IS_RESTORED = "SELECT database_identity <> database_identity() FROM installation"
EVENTS = "SELECT kind, actor, detail FROM event WHERE kind LIKE 'database.%' ORDER BY id"
PORT = "SELECT inet_server_port()"
JOBS = "SELECT task_name, args->>'mailing_id' FROM procrastinate_jobs"


@dataclass
class Process:
    """A process with a witness of its own, whose clock the test moves."""

    db: Database
    lossless: bool = True
    now: float = 1000.0
    witness: Witness = field(init=False)

    def __post_init__(self) -> None:
        self.witness = Witness(by="worker", lossless=self.lossless, wake=wake_started, ticks=lambda: self.now)

    async def visit(self, *, after_s: float = 0) -> FailoverVerdict:
        self.now += after_s
        return await self.witness.visit(self.db.engine)


@pytest.fixture
async def db(pair: Pair) -> AsyncIterator[Database]:
    async with open_database(pair.url, pool_size=3) as db:
        yield db


async def fail_over(pair: Pair, db: Database) -> None:
    pair.fail_over()
    await db.engine.dispose()


async def test_a_failover_that_lost_nothing_is_resumed_after_a_grace_and_the_mailings_are_woken(
    pair: Pair, db: Database
) -> None:
    process = Process(db)
    mailing = await db.add_mailing()
    assert await process.visit() == FailoverVerdict.ready
    await fail_over(pair, db)
    assert await process.visit(after_s=30) == FailoverVerdict.waiting
    assert await process.visit(after_s=GRACE_S - 1) == FailoverVerdict.waiting
    assert await db.value(IS_RESTORED)
    await process.visit(after_s=1)
    assert not await db.value(IS_RESTORED)
    ((kind, actor, detail),) = await db.run(EVENTS)
    assert (kind, actor) == ("database.failed_over", "worker")
    assert [detail[name].split("/")[1] for name in ("was", "now")] == ["00000001", "00000002"]
    assert await db.run(JOBS) == [("plan_mailing", str(mailing))]
    assert await process.visit() == FailoverVerdict.asynchronous, "the new primary has no standby yet"


async def test_the_default_stays_stopped_and_so_do_commits_that_waited_for_no_standby_and_processes_that_are_new(
    cluster: Cluster,
) -> None:
    async with running_pair(cluster, synchronous=False) as pair, open_database(pair.url, pool_size=3) as db:
        undeclared, alone = Process(db, lossless=False), Process(db)
        assert [await undeclared.visit(), await alone.visit()] == [
            FailoverVerdict.undeclared,
            FailoverVerdict.asynchronous,
        ]
        await pair.caught_up()
        await fail_over(pair, db)
        newcomer = Process(db)
        for process in (undeclared, alone, newcomer):
            await process.visit()
        found = [await process.visit(after_s=2 * GRACE_S) for process in (undeclared, alone, newcomer)]
        assert found == [FailoverVerdict.undeclared, FailoverVerdict.asynchronous, FailoverVerdict.newcomer]
        assert await db.value(IS_RESTORED)
        assert await db.run(EVENTS) == []


async def test_a_process_that_slept_too_long_vouches_for_nothing(pair: Pair, db: Database) -> None:
    """It may have been frozen, and the database been recovered to a moment after its last tick."""
    process = Process(db)
    await process.visit()
    await fail_over(pair, db)
    assert await process.visit(after_s=MAX_AGE_S + 1) == FailoverVerdict.outdated
    assert await process.visit(after_s=GRACE_S) == FailoverVerdict.outdated
    assert await db.value(IS_RESTORED)


async def test_what_was_lost_disables_sending_even_after_another_process_has_resumed(pair: Pair, db: Database) -> None:
    """One has seen only what the new primary has. Another's tick and claim were acknowledged by the old one alone."""
    _, (message,) = await db.add_mailing_of(["sending"])
    content, late = Process(db), Process(db)
    await content.visit()
    await late.visit()
    await pair.cut_standby_off()
    await db.run("UPDATE message SET claim_no = 2 WHERE id = :id", id=message)
    late.witness.remember([(message, 2)])
    await fail_over(pair, db)
    await content.visit()
    await content.visit(after_s=GRACE_S)
    assert not await db.value(IS_RESTORED)
    assert await late.visit() == FailoverVerdict.missing
    assert await db.value(IS_RESTORED)
    events = [(event.kind, event.detail.get("missing_claims")) for event in await db.run(EVENTS)]
    assert events == [("database.failed_over", None), ("database.rolled_back", 1)]
    assert [await each.visit(after_s=2 * GRACE_S) for each in (content, late)] == [
        FailoverVerdict.restored,
        FailoverVerdict.missing,
    ]
    with pytest.raises(MailingError, match="acknowledged commit missing"):
        await resume_without_loss(db.sessions, Options(hold=False, echo=print))
    await resume(db.sessions, Options(hold=False, echo=print))
    assert [await each.visit() for each in (content, late)] == [FailoverVerdict.asynchronous] * 2, (
        "an operator has dealt with it"
    )


async def test_a_lost_tick_is_enough(pair: Pair, db: Database) -> None:
    process = Process(db)
    await process.visit()
    await pair.cut_standby_off()
    await process.visit()
    await fail_over(pair, db)
    assert await process.visit() == FailoverVerdict.missing
    assert await db.value(IS_RESTORED)


async def test_an_operator_who_knows_that_nothing_was_lost_resumes_and_nothing_is_marked(
    pair: Pair, db: Database
) -> None:
    await db.add_mailing_of(["pending", "sending"])
    said: list[str] = []
    options = Options(hold=True, echo=said.append)
    await resume_without_loss(db.sessions, options)
    await fail_over(pair, db)
    await resume_without_loss(db.sessions, options)
    assert said == ["This database was not restored from a backup. Nothing to do.",
                    "Sending is enabled. No message was marked."]  # fmt: skip
    assert not await db.value(IS_RESTORED)
    assert await db.run("SELECT status FROM message ORDER BY id") == [("pending",), ("sending",)]
    assert [event.kind for event in await db.run(EVENTS)] == ["database.failed_over"]


async def test_a_restart_of_the_same_server_on_a_new_timeline_is_a_failover_too(pair: Pair, db: Database) -> None:
    """As Patroni restarts a server that crashed: as a standby, which it then promotes."""
    process = Process(db)
    await process.visit()
    pair.restart_primary_as_patroni_does()
    await db.engine.dispose()
    await process.visit()
    await process.visit(after_s=GRACE_S)
    assert not await db.value(IS_RESTORED)


async def test_a_former_primary_that_thaws_is_refused_by_a_process_that_has_seen_the_new_one(
    pair: Pair, db: Database
) -> None:
    """It would take changes that are lost. A process that starts then cannot know; its witness finds out."""
    assert await db.value(PORT) == pair.primary.port
    pair.primary.freeze()
    await asyncio.to_thread(pair.promote)
    await db.engine.dispose()
    assert await db.value(PORT) == pair.standby.port
    pair.primary.thaw()
    await asyncio.to_thread(pair.standby.stop, "immediate")
    await db.engine.dispose()
    with pytest.raises(DATABASE_ERRORS, match="a former primary"):
        await db.value(PORT)
    async with open_database(pair.url) as newcomer:
        assert await newcomer.value(PORT) == pair.primary.port

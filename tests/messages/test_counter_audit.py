"""The audit finds what the triggers should make impossible."""

from mailing.database.engine import transaction
from mailing.messages.counter_audit import Audit, audit_counts, audit_next
from support.database import Database


async def audited(db: Database) -> Audit | None:
    return await db.commit(audit_next)


async def test_each_mailing_is_audited_once_and_again_when_it_has_ended(db: Database) -> None:
    mailing_id, _ = await db.add_mailing_of(["pending", "sent", "sent", "failed"])
    assert await audited(db) == Audit(mailing_id, planned=4, drift=0)
    assert await audited(db) is None
    await db.run("UPDATE mailing SET status = 'finished', finished_at = now()")
    assert await audited(db) == Audit(mailing_id, planned=4, drift=0)
    assert await audited(db) is None


async def test_open_mailings_are_audited_every_hour(db: Database) -> None:
    await db.add_mailing()
    await audit_counts(db.sessions)
    assert await audited(db) is None
    await db.run("UPDATE counter_audit SET at = now() - interval '61 min'")
    assert await audited(db) is not None


async def test_a_second_audit_beside_the_first_one_leaves_it_alone(db: Database) -> None:
    """A long one would meet the next of every minute, until no connection is left."""
    await db.add_mailing()
    await db.add_mailing()
    async with transaction(db.sessions) as first:
        assert await audit_next(first) is not None
        assert await audited(db) is None
    assert await audited(db) is not None


async def test_a_difference_is_kept_and_not_mended(db: Database) -> None:
    await db.add_mailing_of(["sent", "sent"])
    await db.run("UPDATE mailing_counts SET sent = sent - 1, failed = failed + 1")
    await audit_counts(db.sessions)
    assert await db.value("SELECT drift FROM counter_audit") == 2
    assert await db.value("SELECT failed FROM mailing_counts") == 1

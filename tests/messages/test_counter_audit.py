"""The audit finds what the triggers should make impossible."""

from sqlalchemy.ext.asyncio import AsyncEngine

from mailing.database.engine import Sessions, create_engine, transaction
from mailing.database.engine import sessions as create_sessions
from mailing.messages.counter_audit import Audit, audit_counts, audit_next
from support.roles import url_as
from support.rows import add_mailing, add_messages, run, value


async def audited(sessions: Sessions) -> Audit | None:
    async with transaction(sessions) as session:
        return await audit_next(session)


async def test_each_mailing_is_audited_once_and_again_when_it_has_ended(
    sessions: Sessions, engine: AsyncEngine
) -> None:
    mailing_id = await add_mailing(engine)
    await add_messages(engine, mailing_id, ["pending", "sent", "sent", "failed"])
    assert await audited(sessions) == Audit(mailing_id, planned=4, drift=0)
    assert await audited(sessions) is None
    await run(engine, "UPDATE mailing SET status = 'finished', finished_at = now()")
    assert await audited(sessions) == Audit(mailing_id, planned=4, drift=0)
    assert await audited(sessions) is None


async def test_open_mailings_are_audited_every_hour(sessions: Sessions, engine: AsyncEngine) -> None:
    await add_mailing(engine)
    await audit_counts(sessions)
    assert await audited(sessions) is None
    await run(engine, "UPDATE counter_audit SET at = now() - interval '61 min'")
    assert await audited(sessions) is not None


async def test_a_worker_audits_with_its_own_database_role(database_url: str, engine: AsyncEngine) -> None:
    await add_mailing(engine)
    own = create_engine(url_as("mailing_worker", database_url), application="tests", pool_size=1)
    await audit_counts(create_sessions(own))
    await own.dispose()
    assert await value(engine, "SELECT drift FROM counter_audit") == 0


async def test_a_second_audit_beside_the_first_one_leaves_it_alone(sessions: Sessions, engine: AsyncEngine) -> None:
    """A long one would meet the next of every minute, until no connection is left."""
    await add_mailing(engine)
    await add_mailing(engine)
    async with transaction(sessions) as first:
        assert await audit_next(first) is not None
        assert await audited(sessions) is None
    assert await audited(sessions) is not None


async def test_a_difference_is_kept_and_not_mended(sessions: Sessions, engine: AsyncEngine) -> None:
    mailing_id = await add_mailing(engine)
    await add_messages(engine, mailing_id, ["sent", "sent"])
    await run(engine, "UPDATE mailing_counts SET sent = sent - 1, failed = failed + 1")
    await audit_counts(sessions)
    assert await value(engine, "SELECT drift FROM counter_audit") == 2
    assert await value(engine, "SELECT failed FROM mailing_counts") == 1

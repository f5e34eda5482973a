"""A restored database does not know what was sent since the backup, so nothing is sent from it.

`installation.database_identity` is the identity of the database that may send. Each claim compares it with the
identity of the database it runs in. `mailing resume-after-restore` adopts the new identity, and so does a process that
can tell that a failover has lost nothing (`witness`).
"""

from datetime import datetime

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.rows import all_as, one_as
from mailing.errors import MailingError

# How far the ids jump, because it is unknown how many were used since the backup. In steps of 10^12, message ids stay
# below 2^53, JavaScript's largest safe integer, for 9,007 restores.
ID_STEPS = {"message": 10**12, "mailing": 10**9, "client": 10**9}

# In a statement: this is not the database that may send.
RESTORED = "(SELECT database_identity <> database_identity() FROM installation)"
# An expression: the verdicts of the processes. Reads at most WITNESSES_KEPT rows.
VERDICTS = """ARRAY(
    SELECT DISTINCT verdict FROM witness WHERE seen_at > now() - interval '30 s' ORDER BY verdict)"""
_IS_RESTORED = text(f"SELECT {RESTORED}")


async def is_restored(session: AsyncSession) -> bool:
    return bool((await session.execute(_IS_RESTORED)).scalar_one())


_RESUMED = text("SELECT max(finished_at) FROM restoration WHERE finished_at > :since")


async def resumed_since(session: AsyncSession, since: datetime) -> datetime | None:
    """Return when sending was last resumed after a restore; the database does not know what was done before that."""
    found: datetime | None = await session.scalar(_RESUMED, {"since": since})
    return found


RESTORED_MARK = "restored"  # in place of the identity of a database that may send
_MARK = text(f"UPDATE installation SET database_identity = '{RESTORED_MARK}'")  # noqa: S608 - a constant


async def mark_restored(session: AsyncSession) -> None:
    """Treat the database as restored from now on."""
    await session.execute(_MARK)


# Guarded twice: another process may have disabled sending meanwhile, and the connection may lead to another database.
_RESUME_AFTER_FAILOVER = text("""
    WITH moved AS (
        UPDATE installation SET database_identity = database_identity()
        WHERE database_identity = :home AND database_identity() = :here RETURNING true
    ), recorded AS (
        INSERT INTO event (kind, actor, detail)
        SELECT 'database.failed_over', :by, jsonb_build_object('was', CAST(:home AS text), 'now', CAST(:here AS text))
        FROM moved
    )
    SELECT EXISTS (SELECT FROM moved)
""")


async def resume_after_failover(session: AsyncSession, *, home: str, here: str, by: str) -> bool:
    """Allow sending at `here`, which has lost nothing since it was allowed at `home`. False: that is no longer so."""
    values = {"home": home, "here": here, "by": by}
    return bool((await session.execute(_RESUME_AFTER_FAILOVER, values)).scalar_one())


_IDENTITIES = text("SELECT database_identity AS home, database_identity() AS here FROM installation")


class Identities(Struct, frozen=True):
    """`home` is the database where sending was allowed last, `here` this one."""

    home: str
    here: str


async def identities(session: AsyncSession) -> Identities:
    return one_as(Identities, await session.execute(_IDENTITIES))


WITNESSES_KEPT = 1000
# By count, because a clock may be set forward: the row of a living process is always among the newest.
_DELETE_OLD_WITNESSES = text("""
    DELETE FROM witness WHERE process IN (SELECT process FROM witness ORDER BY seen_at DESC OFFSET :kept)
""")


async def delete_old_witnesses(session: AsyncSession) -> None:
    await session.execute(_DELETE_OLD_WITNESSES, {"kept": WITNESSES_KEPT})


class Witnesses(Struct, frozen=True):
    """How many processes of one kind have the same verdict."""

    kind: str
    verdict: str
    count: int


_WITNESSES = text("""
    SELECT kind, verdict, count(*) AS count FROM witness WHERE seen_at > now() - interval '30 s'
    GROUP BY kind, verdict ORDER BY kind, verdict
""")


async def witnesses(session: AsyncSession) -> list[Witnesses]:
    """Count the verdicts of the processes of the last 30 s; reads at most WITNESSES_KEPT rows."""
    return all_as(Witnesses, await session.execute(_WITNESSES))


_LOCK = text("SELECT database_identity <> database_identity() FROM installation FOR UPDATE")


async def lock_restored(session: AsyncSession) -> None:
    """Let no other command resume until the transaction ends. Raise MailingError if one already has."""
    if not (await session.execute(_LOCK)).scalar_one():
        raise MailingError("another command has resumed sending meanwhile; nothing is left to do")


# An interrupted resume continues where it stopped, but only while the same server runs: a data directory that was
# copied back may contain an unfinished one whose ids have been used since.
_HERE = "database_identity() || ' since ' || pg_postmaster_start_time()"
_UNFINISHED = f"SELECT began_at FROM restoration WHERE database_identity = {_HERE} AND finished_at IS NULL"  # noqa: S608 - constants
_BEGIN = text(f"""
    INSERT INTO restoration (database_identity) SELECT {_HERE} WHERE NOT EXISTS ({_UNFINISHED}) RETURNING began_at
""")
_BEGAN_AT = text(_UNFINISHED)


async def begin(session: AsyncSession) -> datetime:
    """Raise the ids, unless an interrupted resume already has. Return when this resume began."""
    if (await session.execute(_BEGIN)).all():
        for table, number in (await next_ids(session)).items():
            await session.execute(text(f"SELECT setval('{table}_id_seq', {number}, false)"))
    began_at: datetime = (await session.execute(_BEGAN_AT)).scalar_one()
    return began_at


async def next_ids(session: AsyncSession) -> dict[str, int]:
    """Compute where the ids would be raised to now: above every id given out or stored in a table, never lower."""
    raised = "(greatest(last_value, (SELECT max(id) FROM {table})) / {step} + 1) * {step}"
    return {
        table: await _of_sequence(session, table, raised.format(table=table, step=step))
        for table, step in ID_STEPS.items()
    }


async def coming_ids(session: AsyncSession) -> dict[str, int]:
    coming = "last_value + CASE WHEN is_called THEN 1 ELSE 0 END"
    return {table: await _of_sequence(session, table, coming) for table in ID_STEPS}


async def _of_sequence(session: AsyncSession, table: str, expression: str) -> int:
    return int((await session.execute(text(f"SELECT {expression} FROM {table}_id_seq"))).scalar_one())  # noqa: S608 - a table of ID_STEPS


_FINISH = text("UPDATE restoration SET finished_at = now() WHERE finished_at IS NULL")
_ADOPT = text("UPDATE installation SET database_identity = database_identity()")


async def finish(session: AsyncSession) -> None:
    """Allow sending, from the commit on."""
    await session.execute(_FINISH)
    await session.execute(_ADOPT)

"""Rows put into the database directly, for what the API under test does not make by itself."""

from datetime import timedelta

from sqlalchemy import text

from mailing.database.engine import Sessions, transaction

_MAILING = text("""
    INSERT INTO mailing (text, starts_at, ends_at, status, started_at, released_revision, released_at, released_by)
    VALUES ('hello', now() - interval '1 hour', now() + interval '1 day', 'running', now(), 1, now(), 'tests')
    RETURNING id
""")
_MESSAGE = text("""
    INSERT INTO message (mailing_id, client_id, status, due_at, closes_at, counted_attempts, claim_no, maybe_accepted,
                         lease_until, phone, finished_at)
    VALUES (:mailing_id, :client_id, CAST(:status AS text), now(), now() + :opening, :attempts, :attempts, :ambiguous,
            CASE WHEN :status = 'sending' THEN now() + interval '1 minute' END,
            CASE WHEN :attempts > 0 THEN '79990000000' END,
            CASE WHEN :status NOT IN ('pending', 'sending') THEN now() END)
""")
_COUNTS = text("SELECT planned, pending, sending, sent, cancelled, unknown FROM mailing_counts WHERE mailing_id = :id")
_ROWS = text("""
    SELECT count(*), count(*) FILTER (WHERE status = 'pending'), count(*) FILTER (WHERE status = 'sending'),
           count(*) FILTER (WHERE status = 'sent'), count(*) FILTER (WHERE status = 'cancelled'),
           count(*) FILTER (WHERE status = 'unknown')
    FROM message WHERE mailing_id = :id
""")


async def plant_mailing(sessions: Sessions) -> int:
    async with transaction(sessions) as session:
        mailing_id: int = (await session.execute(_MAILING)).scalar_one()
    return mailing_id


async def plant_message(
    sessions: Sessions, client_id: int, *, status: str = "pending", attempts: int = 0, ambiguous: bool = False
) -> int:
    """Of a mailing of its own; returns the mailing's id."""
    mailing_id = await plant_mailing(sessions)
    values = {"mailing_id": mailing_id, "client_id": client_id, "status": status, "opening": timedelta(hours=9)}
    async with transaction(sessions) as session:
        await session.execute(_MESSAGE, values | {"attempts": attempts, "ambiguous": ambiguous})
    return mailing_id


async def message_of(sessions: Sessions, mailing_id: int) -> dict[str, object]:
    """Return the mailing's only message; `open` tells whether its window is known."""
    statement = text("SELECT *, closes_at > now() AS open FROM message WHERE mailing_id = :id")
    async with transaction(sessions) as session:
        return dict((await session.execute(statement, {"id": mailing_id})).mappings().one())


async def counters_agree(sessions: Sessions, mailing_id: int) -> bool:
    async with transaction(sessions) as session:
        counted = (await session.execute(_COUNTS, {"id": mailing_id})).one()
        there = (await session.execute(_ROWS, {"id": mailing_id})).one()
    return tuple(counted) == tuple(there)

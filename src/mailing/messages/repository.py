"""Every statement that moves messages: each a guarded set statement, counted by the triggers of the schema.

One such statement a transaction (or several over the same mailing in its order): the counters are locked at its end.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.db import driver

# pending → cancelled, or unknown where an attempt may have arrived. Index: message_once (client_id first).
_CANCEL_OF_CLIENT = text("""
    UPDATE message m SET
        status = CASE WHEN m.ambiguous THEN 'unknown' ELSE 'cancelled' END,
        phone = coalesce(m.phone, c.phone), finished_at = now(), waiting = NULL, last_error = :reason
    FROM client c
    WHERE m.client_id = :client_id AND c.id = m.client_id AND m.status = 'pending'
""")


async def cancel_of_client(session: AsyncSession, client_id: int, *, reason: str) -> None:
    """Call before the client's row goes: a message that was never claimed takes the phone from it.

    One that is being sent is stopped by its sender, which asks before each call.
    """
    await session.execute(_CANCEL_OF_CLIENT, {"client_id": client_id, "reason": reason})


# The opening [due_at, closes_at) of unsent messages is void; the sweep computes the next one. Index: message_once.
_VOID_OPENINGS = text("""
    UPDATE message SET closes_at = now() WHERE client_id = :client_id AND status IN ('pending', 'sending')
""")


async def void_openings_of_client(session: AsyncSession, client_id: int) -> None:
    """The client moved to another time zone: nothing is sent to it before its local hours are known again."""
    await session.execute(_VOID_OPENINGS, {"client_id": client_id})


# The same for the clients in the temporary table moved_client (id): locked by id, the order of every set statement.
_VOID_OPENINGS_OF_MOVED = """
    UPDATE message m SET closes_at = now()
    FROM (
        SELECT id FROM message
        WHERE client_id IN (SELECT id FROM moved_client) AND status IN ('pending', 'sending')
        ORDER BY id FOR UPDATE
    ) AS unsent
    WHERE m.id = unsent.id
"""


async def void_openings_of_moved_clients(session: AsyncSession) -> None:
    """An import moved the clients that stand in the session's temporary table `moved_client`."""
    connection = await driver(session)
    await connection.execute(_VOID_OPENINGS_OF_MOVED, timeout=900)  # about 20 s for 1,000,000 messages

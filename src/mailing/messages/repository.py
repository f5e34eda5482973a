"""Every statement that moves messages: each a guarded set statement, counted by the triggers of the schema.

One such statement a transaction (or several over the same mailing in its order): the counters are locked at its end.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

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

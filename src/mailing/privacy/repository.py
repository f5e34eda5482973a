"""Statements of retention and erasure, except those on messages, which are in `messages.redaction`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import asdict
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.engine import execute_long, fetch_long
from mailing.database.rows import all_as
from mailing.events import record_event

RETENTION = "retention"


async def try_lock(session: AsyncSession) -> bool:
    """Try to take the lock of retention until the transaction ends: two workers would wait for each other."""
    return bool((await session.execute(text("SELECT pg_try_advisory_xact_lock(7233151)"))).scalar_one())


# A finished mailing whose end has not come may run again. Index: mailing_to_redact.
_NEXT = text("""
    SELECT g.id FROM mailing g JOIN mailing_counts c ON c.mailing_id = g.id
    WHERE g.redacted_at IS NULL AND g.status IN ('finished', 'cancelled') AND c.pending + c.sending = 0
      AND CASE g.status WHEN 'finished' THEN greatest(g.finished_at, g.ends_at) ELSE g.updated_at END
          < now() - make_interval(days => :days)
    ORDER BY g.id LIMIT 1
""")


async def next_to_redact(session: AsyncSession, days: int) -> int | None:
    found: int | None = await session.scalar(_NEXT, {"days": days})
    return found


_REDACT_TEXTS = text("UPDATE mailing_text SET text = '' WHERE mailing_id = :id")
_DELETE_FORMER_PHONES = text("DELETE FROM former_phone WHERE mailing_id = :id")
_MARK_REDACTED = text("UPDATE mailing SET text = '', redacted_at = now() WHERE id = :id")


async def redact_mailing(session: AsyncSession, mailing_id: int) -> None:
    """Redact a mailing's texts, and delete the hashes of its former phones. Its messages must be redacted before."""
    for statement in (_REDACT_TEXTS, _DELETE_FORMER_PHONES, _MARK_REDACTED):
        await session.execute(statement, {"id": mailing_id})
    await record_event(session, "mailing.redacted", by=RETENTION, mailing_id=mailing_id)


# See the function's comment in the schema. By the primary key, in slices.
_DELETE_EVENTS = text("SELECT forget_events(:days, :after, :count)")


async def delete_events(session: AsyncSession, days: int, *, after: int, count: int) -> int | None:
    """Delete old events among `count` ids behind `after`. Returns the last id; None if the rest is too new."""
    last: int | None = await session.scalar(_DELETE_EVENTS, {"days": days, "after": after, "count": count})
    return last


class Erasure(Struct, frozen=True):
    """An entry of the erasure log. `installation` identifies the key of the hash."""

    installation: str
    hash: str
    erased_at: Annotated[datetime, Meta(tz=True)]
    revoked_at: Annotated[datetime, Meta(tz=True)] | None


# Blocks concurrent writers of the phone: they wait, then find the erasure.
_BLOCK_WRITERS = text("LOCK TABLE client IN EXCLUSIVE MODE")
_ADD_ERASURE = text("""
    INSERT INTO erasure (hash) SELECT erasure_hash(:phone, key) FROM erasure_key
    ON CONFLICT (hash) DO UPDATE SET erased_at = now(), revoked_at = NULL WHERE erasure.revoked_at IS NOT NULL
""")


async def record_erasure(session: AsyncSession, phone: str) -> None:
    """Block the phone from the commit on. Waits at most 10 s for a running import."""
    await session.execute(text("SET LOCAL lock_timeout = '10s'"))
    await session.execute(_BLOCK_WRITERS)
    await session.execute(_ADD_ERASURE, {"phone": phone})


_OF_PHONE = text("""
    SELECT e.erased_at FROM erasure e JOIN erasure_key k ON e.hash = erasure_hash(:phone, k.key)
    WHERE e.revoked_at IS NULL
""")


async def erased_at(session: AsyncSession, phone: str) -> datetime | None:
    found: datetime | None = await session.scalar(_OF_PHONE, {"phone": phone})
    return found


_REVOKE = text("""
    UPDATE erasure e SET revoked_at = now() FROM erasure_key k
    WHERE e.hash = erasure_hash(:phone, k.key) AND e.revoked_at IS NULL RETURNING e.hash
""")


async def revoke_erasure(session: AsyncSession, phone: str) -> bool:
    """Revoke an erasure. False: there is none."""
    return (await session.execute(_REVOKE, {"phone": phone})).first() is not None


# Answers stored for Idempotency-Key, of one day: no index.
_DELETE_ANSWERS = text("DELETE FROM idempotency_key WHERE position(convert_to(:phone, 'UTF8') IN body) > 0")


async def delete_answers(session: AsyncSession, phone: str) -> None:
    await session.execute(_DELETE_ANSWERS, {"phone": phone})


# Details of a deleted client's events; kind, actor and time stay. Index: event_of_client; messages are scanned once.
_REDACT_EVENTS = """
    UPDATE event SET detail = detail - '{tag,operator_code,timezone,old,new}'::text[]
    WHERE client_id = $2 OR client_id = ANY(ARRAY(
        SELECT m.client_id FROM message m
        WHERE m.phone = $1 AND NOT EXISTS (SELECT FROM client c WHERE c.id = m.client_id)))
"""


async def redact_events(session: AsyncSession, phone: str, client_id: int | None) -> None:
    """Redact the client's events. Call after the client is deleted and before its messages are redacted."""
    await execute_long(session, _REDACT_EVENTS, phone, client_id)


_INSTALLATION = "left(encode(erasure_hash('', k.key), 'hex'), 16)"
_LOG = text(f"""
    SELECT {_INSTALLATION} AS installation, encode(e.hash, 'hex') AS hash, e.erased_at, e.revoked_at
    FROM erasure e CROSS JOIN erasure_key k
    ORDER BY e.erased_at, e.hash
""")  # noqa: S608 - composed from a constant of this module


async def erasure_log(session: AsyncSession) -> list[Erasure]:
    return all_as(Erasure, await session.execute(_LOG))


async def installation_id(session: AsyncSession) -> str:
    """Return an identifier of the key that does not disclose it."""
    return str((await session.execute(text(f"SELECT {_INSTALLATION} FROM erasure_key k"))).scalar_one())  # noqa: S608 - its own constant


# The newer entry about a phone wins, be it an erasure or its revocation.
_ADOPT = text("""
    INSERT INTO erasure (hash, erased_at, revoked_at) VALUES (decode(:hash, 'hex'), :erased_at, :revoked_at)
    ON CONFLICT (hash) DO UPDATE SET erased_at = excluded.erased_at, revoked_at = excluded.revoked_at
    WHERE greatest(excluded.erased_at, excluded.revoked_at) > greatest(erasure.erased_at, erasure.revoked_at)
""")


async def adopt_erasures(session: AsyncSession, log: Sequence[Erasure]) -> None:
    if log:
        await session.execute(_ADOPT, [asdict(each) for each in log])


# Hashes every phone: 5 s for 1,000,000.
_STILL_PRESENT = """
    SELECT p.phone FROM (SELECT phone FROM client UNION SELECT phone FROM message WHERE phone IS NOT NULL) p
    CROSS JOIN erasure_key k JOIN erasure e ON e.hash = erasure_hash(p.phone, k.key) WHERE e.revoked_at IS NULL
"""


async def erased_but_present(session: AsyncSession) -> list[str]:
    """List erased phones that a restored backup contains."""
    return [row["phone"] for row in await fetch_long(session, _STILL_PRESENT)]


# Messages to this phone, or to the client that has it now. No index, as in `redaction`.
_MESSAGES = """
    SELECT m.id, m.mailing_id, m.client_id, coalesce(m.phone, c.phone) AS phone, m.status, t.text,
           m.finished_at AS ended_at, m.reason_code, m.reason_params,
           (ARRAY['accepted', 'undelivered', 'delivered'])[r.state] AS receipt, r.code AS receipt_code,
           r.at AS receipt_at
    FROM message m JOIN mailing g ON g.id = m.mailing_id LEFT JOIN client c ON c.id = m.client_id
    LEFT JOIN receipt r ON r.message_id = m.id
    LEFT JOIN mailing_text t ON t.mailing_id = g.id AND t.revision = coalesce(m.text_revision, g.text_revision)
    WHERE m.phone = $1 OR m.client_id = $2 ORDER BY m.id
"""


async def messages_of_person(session: AsyncSession, phone: str, client_id: int | None) -> list[Mapping[str, Any]]:
    return list(await fetch_long(session, _MESSAGES, phone, client_id))


# Index: the primary key.
_ATTEMPTS = text("""
    SELECT message_id, number, started_at, duration_ms, outcome, http_status, code, reason_code, reason_params,
        provider_id
    FROM attempt
    WHERE message_id = ANY(CAST(:ids AS bigint[])) ORDER BY message_id, number
""")
# A deleted client is found by the messages. Index: event_of_client, event_of_message.
_EVENTS = text("""
    SELECT at, kind, actor, mailing_id, message_id, client_id, detail FROM event
    WHERE message_id = ANY(CAST(:ids AS bigint[])) OR client_id = :client_id OR client_id = ANY(ARRAY(
        SELECT m.client_id FROM message m WHERE m.id = ANY(CAST(:ids AS bigint[]))
        AND NOT EXISTS (SELECT FROM client c WHERE c.id = m.client_id)))
    ORDER BY id
""")


async def attempts_of(session: AsyncSession, ids: Sequence[int]) -> list[dict[str, Any]]:
    return [dict(row) for row in (await session.execute(_ATTEMPTS, {"ids": list(ids)})).mappings()]


async def events_of(session: AsyncSession, client_id: int | None, ids: Sequence[int]) -> list[dict[str, Any]]:
    rows = await session.execute(_EVENTS, {"client_id": client_id, "ids": list(ids)})
    return [dict(row) for row in rows.mappings()]

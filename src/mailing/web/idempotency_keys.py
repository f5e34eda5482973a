"""The stored answers of `idempotency`, by caller and key."""

import json

from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.rows import first_as

RETENTION_H = 24


class Stored(Struct, frozen=True):
    request_hash: bytes
    status: int
    headers: dict[str, str]
    body: bytes


# Tried, not waited for. Keys with the same 64-bit hash would only exclude each other briefly.
_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:caller || ' ' || :key, 0))")

# A statement of its own after the lock, to see what the previous holder committed. By the primary key.
_FIND = text("SELECT request_hash, status, headers, body FROM idempotency_key WHERE caller = :caller AND key = :key")

_STORE = text("""
    INSERT INTO idempotency_key (caller, key, request_hash, status, headers, body)
    VALUES (:caller, :key, :request_hash, :status, CAST(:headers AS jsonb), :body)
""")

# The oldest first, by idempotency_key_age; rows that another process is deleting are skipped.
_DELETE_EXPIRED = text("""
    DELETE FROM idempotency_key WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM idempotency_key WHERE created_at < now() - make_interval(hours => :kept)
        ORDER BY created_at LIMIT :count FOR UPDATE SKIP LOCKED))
""")


async def store_answer(session: AsyncSession, names: dict[str, str], answer: Stored) -> None:
    await session.execute(_STORE, names | asdict(answer) | {"headers": json.dumps(answer.headers)})


def is_free(connection: Connection, names: dict[str, str]) -> bool:
    """Take the key, as `try_lock`. False also where it has an answer by now."""
    return connection.execute(_LOCK, names).scalar_one() and connection.execute(_FIND, names).first() is None


async def try_lock(session: AsyncSession, names: dict[str, str]) -> bool:
    """Take the key until the transaction ends; False where another request has it."""
    return bool((await session.execute(_LOCK, names)).scalar_one())


async def find_answer(session: AsyncSession, names: dict[str, str]) -> Stored | None:
    return first_as(Stored, await session.execute(_FIND, names))


async def delete_expired(session: AsyncSession, *, count: int) -> None:
    """Delete at most `count` keys older than RETENTION_H hours."""
    await session.execute(_DELETE_EXPIRED, {"kept": RETENTION_H, "count": count})

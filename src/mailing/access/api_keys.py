"""API keys: 32 random bytes each, shown once, stored as a SHA-256 digest.

A key has one of two scopes: read, or full. There is no scope between them: a caller that may create a mailing may send.

Each process caches a key for CACHE_TTL_S, so it queries once a second and not for each request. `revoke` therefore
takes as long: when it returns, no process accepts the key.
"""

import asyncio
import hashlib
import secrets
import time
from datetime import datetime
from typing import Final, NamedTuple

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.engine import Sessions, transaction
from mailing.database.read_pool import ReadPool
from mailing.database.rows import all_as, first_as
from mailing.errors import FieldError, Forbidden, Invalid, NotFound
from mailing.events import record_event

READ, FULL = "read", "full"
MAX_NAME = 100  # characters
CACHE_TTL_S: Final = 1.0
REVOCATION_S: Final = 1.1 * CACHE_TTL_S  # until every process refuses the key, even one with a slower clock
MAX_CACHED = 1000


class ApiKey(msgspec.Struct):
    """An API key without its secret. `hint` is how the key begins, to tell it from others."""

    id: int
    name: str
    hint: str
    scope: str
    created_at: datetime
    revoked_at: datetime | None
    made_by: str | None


_INSERT = text("""
    INSERT INTO api_key (name, hint, hash, scope, created_by) VALUES (:name, :hint, :hash, :scope, :created_by)
""")

# A transaction that disables the user or lowers the role waits for a key that is being created, and then finds it.
_STILL_ADMIN = text("""
    SELECT id FROM user_account WHERE id = :id AND role = 'admin' AND disabled_at IS NULL FOR SHARE
""")

_KEYS = """
    SELECT k.id, k.name, k.hint, k.scope, k.created_at, k.revoked_at, u.name AS made_by
    FROM api_key k LEFT JOIN user_account u ON u.id = k.created_by
"""

_ALL = text(f"{_KEYS} ORDER BY k.id")

_BY_ID = text(f"{_KEYS} WHERE k.id = :id")

# Keys are few.
_LIVE_OF_USER = text(f"{_KEYS} WHERE k.created_by = :user_id AND k.revoked_at IS NULL ORDER BY k.id")

_REVOKE_OF_USER = text("""
    UPDATE api_key SET revoked_at = now() WHERE created_by = :user_id AND revoked_at IS NULL RETURNING id
""")

_REVOKE = text("UPDATE api_key SET revoked_at = coalesce(revoked_at, now()) WHERE id = :id RETURNING id")

# By the unique hash.
_FIND = "SELECT id, name, scope FROM api_key WHERE hash = $1 AND revoked_at IS NULL"


async def create(session: AsyncSession, name: str, *, scope: str = FULL, by: str, user_id: int | None = None) -> str:
    """Return the key itself, which cannot be read again. `user_id` is its creator; None is the command line.

    Raise Invalid, or Forbidden for a user who may no longer create keys.
    """
    scope_problems = [] if scope in (READ, FULL) else [FieldError("scope", "must be read or full")]
    if problems := name_problems(name) + scope_problems:
        raise Invalid(*problems)
    if user_id is not None and (await session.execute(_STILL_ADMIN, {"id": user_id})).first() is None:
        raise Forbidden("This user may no longer create keys.")
    key = "mk_" + secrets.token_urlsafe(32)
    await session.execute(
        _INSERT, {"name": name, "hint": key[:8], "hash": digest_of(key), "scope": scope, "created_by": user_id}
    )
    await record_event(session, "key.created", by=by, name=name, scope=scope)
    return key


async def all_keys(session: AsyncSession) -> list[ApiKey]:
    return all_as(ApiKey, await session.execute(_ALL))


async def by_id(session: AsyncSession, key_id: int) -> ApiKey:
    if (found := first_as(ApiKey, await session.execute(_BY_ID, {"id": key_id}))) is None:
        raise NotFound("There is no key %(id)s; mailing key list shows them.", id=key_id)
    return found


async def revoke(sessions: Sessions, key_id: int, *, by: str) -> None:
    """Return when every process refuses the key, REVOCATION_S after the commit. Revoking twice changes nothing."""
    async with transaction(sessions) as session:
        if (await session.execute(_REVOKE, {"id": key_id})).first() is None:
            raise NotFound("There is no key %(id)s; mailing key list shows them.", id=key_id)
        await record_event(session, "key.revoked", by=by, key_id=key_id)
    await wait_until_revoked(1)


async def live_of(session: AsyncSession, user_id: int) -> list[ApiKey]:
    """List the user's keys that are still accepted."""
    return all_as(ApiKey, await session.execute(_LIVE_OF_USER, {"user_id": user_id}))


async def revoke_all_of(session: AsyncSession, user_id: int, *, by: str) -> int:
    """Return the number of keys revoked. Commit, then await `wait_until_revoked`."""
    revoked = list((await session.execute(_REVOKE_OF_USER, {"user_id": user_id})).scalars())
    for key_id in revoked:
        await record_event(session, "key.revoked", by=by, key_id=key_id)
    return len(revoked)


async def wait_until_revoked(revoked: int) -> None:
    """Wait, after the commit, until every process refuses the keys that were revoked."""
    if revoked:
        await asyncio.sleep(REVOCATION_S)


class CachedKey(NamedTuple):
    """A key that was found, and the monotonic time at which the entry expires."""

    caller: str
    scope: str
    until: float


class KeyCache:
    def __init__(self, reads: ReadPool) -> None:
        self._reads = reads
        self._known: dict[bytes, CachedKey] = {}

    def __len__(self) -> int:
        return len(self._known)

    async def find(self, key: str) -> CachedKey | None:
        """Return None for an unknown or revoked key. Misses are not cached: wrong keys are unlimited in number."""
        digest, now = digest_of(key), time.monotonic()
        known = self._known.get(digest)
        if known is None or known.until <= now:
            known = await self._look_up(digest, until=now + CACHE_TTL_S)
        return known

    async def _look_up(self, digest: bytes, *, until: float) -> CachedKey | None:
        """`until` counts from before the query, since its result is as old as that."""
        self._known.pop(digest, None)
        row = await self._reads.row(_FIND, digest)
        if row is None:
            return None
        if len(self._known) >= MAX_CACHED:
            self._known.clear()
        known = self._known[digest] = CachedKey(f"key {row['id']} ({row['name']})", row["scope"], until)
        return known


def name_problems(name: str) -> list[FieldError]:
    fits = 1 <= len(name.strip()) <= MAX_NAME and name.isprintable()
    return [] if fits else [FieldError("name", "must have 1 to 100 printable characters")]


def digest_of(secret: str) -> bytes:
    """Return what is stored in the place of a key or a token."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()

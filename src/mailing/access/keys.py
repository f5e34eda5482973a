"""API keys: 32 random bytes each, shown once, kept as a SHA-256.

A key may read, or everything. There is nothing between: whoever may make a mailing sends.

A process believes what it was told about a key for KNOWN_S, so it asks once a second and not for each request. That is
why `revoke` takes that long: when it returns, no process lets the key in.
"""

import asyncio
import hashlib
import secrets
import time
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
from litestar.connection import ASGIConnection
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.db import Reads, Sessions, transaction
from mailing.errors import FieldError, Forbidden, Invalid, NotFound, Unauthorized
from mailing.events import note
from mailing.web import SAFE

CONFIGURED = "MAILING_API_KEY"
READ, FULL = "read", "full"
LONGEST_NAME = 100  # characters
KNOWN_S: Final = 1.0
FORGOTTEN_S: Final = 1.1 * KNOWN_S  # by every process, though its clock be slower than ours
MOST_KNOWN = 1000  # of them at a time


class ApiKey(msgspec.Struct):
    """`hint` is how the key begins, to tell it from others."""

    id: int
    name: str
    hint: str
    scope: str
    created_at: datetime
    revoked_at: datetime | None


_INSERT = text("INSERT INTO api_key (name, hint, hash, scope) VALUES (:name, :hint, :hash, :scope)")

_COLUMNS = "id, name, hint, scope, created_at, revoked_at"

_ALL = text(f"SELECT {_COLUMNS} FROM api_key ORDER BY id")  # noqa: S608 - its own constant

_BY_ID = text(f"SELECT {_COLUMNS} FROM api_key WHERE id = :id")  # noqa: S608 - its own constant

_REVOKE = text("UPDATE api_key SET revoked_at = coalesce(revoked_at, now()) WHERE id = :id RETURNING id")

# By the unique hash.
_FIND = "SELECT id, name, scope FROM api_key WHERE hash = $1 AND revoked_at IS NULL"


async def create(session: AsyncSession, name: str, *, scope: str = FULL, by: str) -> str:
    """Returns the key itself; nobody can read it again later. Raises Invalid."""
    if problems := _problems(name, scope):
        raise Invalid(*problems)
    key = "mk_" + secrets.token_urlsafe(32)
    await session.execute(_INSERT, {"name": name, "hint": key[:8], "hash": _hash(key), "scope": scope})
    await note(session, "key.created", by=by, name=name, scope=scope)
    return key


async def all_keys(session: AsyncSession) -> list[ApiKey]:
    return [ApiKey(*row) for row in await session.execute(_ALL)]


async def by_id(session: AsyncSession, key_id: int) -> ApiKey:
    if (found := (await session.execute(_BY_ID, {"id": key_id})).first()) is None:
        raise NotFound(f"There is no key {key_id}; mailing key list shows them.")
    return ApiKey(*found)


async def revoke(sessions: Sessions, key_id: int, *, by: str) -> None:
    """Returns when every process refuses the key, FORGOTTEN_S after the commit. Revoking twice changes nothing."""
    async with transaction(sessions) as session:
        if (await session.execute(_REVOKE, {"id": key_id})).first() is None:
            raise NotFound(f"There is no key {key_id}; mailing key list shows them.")
        await note(session, "key.revoked", by=by, key_id=key_id)
    await asyncio.sleep(FORGOTTEN_S)


class Known(NamedTuple):
    """A key that was found, and the monotonic time until which that is believed."""

    caller: str
    scope: str
    until: float


class KnownKeys:
    """The keys as one process knows them."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._known: dict[bytes, Known] = {}

    def __len__(self) -> int:
        return len(self._known)

    async def find(self, key: str) -> Known | None:
        """None for one that is unknown or revoked: that is not remembered, there is no end of wrong keys."""
        digest, now = _hash(key), time.monotonic()
        known = self._known.get(digest)
        if known is None or known.until <= now:
            known = await self._look_up(digest, until=now + KNOWN_S)
        return known

    async def _look_up(self, digest: bytes, *, until: float) -> Known | None:
        """`until` is counted from before the database was asked: its answer is no newer than that."""
        self._known.pop(digest, None)
        row = await self._reads.row(_FIND, digest)
        if row is None:
            return None
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        known = self._known[digest] = Known(f"key {row['id']} ({row['name']})", row["scope"], until)
        return known


async def require_key(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    """`Authorization: Bearer <key>`. Who it is stands in `scope["user"]` afterwards."""
    scheme, _, key = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise Unauthorized("Send the header Authorization: Bearer <key>; mailing key create makes one.")
    configured: str | None = connection.app.state.settings.api_key
    if configured and secrets.compare_digest(key.encode(), configured.encode()):
        connection.scope["user"] = CONFIGURED
        return
    known = await connection.app.state.known_keys.find(key)
    if known is None:
        raise Unauthorized("This key is not known here, or it was revoked.")
    if known.scope == READ and connection.scope.get("method") not in SAFE:
        raise Forbidden("This key may only read; mailing key create makes one that may do everything.")
    connection.scope["user"] = known.caller


def _problems(name: str, scope: str) -> list[FieldError]:
    checks = {
        FieldError("name", "must have 1 to 100 printable characters"): 1 <= len(name.strip()) <= LONGEST_NAME
        and name.isprintable(),
        FieldError("scope", "must be read or full"): scope in (READ, FULL),
    }
    return [error for error, holds in checks.items() if not holds]


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()

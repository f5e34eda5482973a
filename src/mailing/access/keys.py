"""API keys: 32 random bytes each, shown once, kept as a SHA-256."""

import hashlib
import secrets
from datetime import datetime
from typing import Any

import msgspec
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.db import transaction
from mailing.errors import NotFound, Unauthorized

CONFIGURED = "MAILING_API_KEY"


class ApiKey(msgspec.Struct):
    """`hint` is how the key begins, to tell it from others."""

    id: int
    name: str
    hint: str
    created_at: datetime
    revoked_at: datetime | None


async def create(session: AsyncSession, name: str) -> str:
    """Returns the key itself; nobody can read it again later."""
    key = "mk_" + secrets.token_urlsafe(32)
    await session.execute(
        text("INSERT INTO api_key (name, hint, hash) VALUES (:name, :hint, :hash)"),
        {"name": name, "hint": key[:8], "hash": _hash(key)},
    )
    return key


async def all_keys(session: AsyncSession) -> list[ApiKey]:
    rows = await session.execute(text("SELECT id, name, hint, created_at, revoked_at FROM api_key ORDER BY id"))
    return [ApiKey(*row) for row in rows]


async def revoke(session: AsyncSession, key_id: int) -> None:
    """Takes effect with the next request; revoking twice changes nothing."""
    revoked = text("UPDATE api_key SET revoked_at = coalesce(revoked_at, now()) WHERE id = :id RETURNING id")
    if (await session.execute(revoked, {"id": key_id})).first() is None:
        raise NotFound(f"There is no key {key_id}; mailing key list shows them.")


async def require_key(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A Litestar guard: `Authorization: Bearer <key>`. Who it is stands in `scope["user"]` afterwards."""
    del handler  # Litestar passes it; every route asks for the same
    scheme, _, key = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise Unauthorized("Send the header Authorization: Bearer <key>; mailing key create makes one.")
    configured: str | None = connection.app.state.settings.api_key
    if configured and secrets.compare_digest(key.encode(), configured.encode()):
        connection.scope["user"] = CONFIGURED
        return
    async with transaction(connection.app.state.sessions) as session:
        known = await session.execute(
            text("SELECT id, name FROM api_key WHERE hash = :hash AND revoked_at IS NULL"), {"hash": _hash(key)}
        )
        if (found := known.first()) is None:
            raise Unauthorized("This key is not known here, or it was revoked.")
    connection.scope["user"] = f"key {found.id} ({found.name})"


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()

"""Sessions of the admin page: 32 random bytes each in a cookie, stored as a SHA-256 digest."""

import secrets
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.access.api_keys import digest_of
from mailing.access.roles import Role
from mailing.database.rows import all_as

IDLE_TIMEOUT = timedelta(hours=1)
MAX_AGE = timedelta(hours=12)

_MAX_STORED = 200  # characters of the User-Agent


def actor(user_id: int, name: str) -> str:
    """Return the name of a user in events and logs."""
    return f"user {user_id} ({name})"


class User(msgspec.Struct, frozen=True):
    """The signed-in user of a request."""

    id: int
    name: str
    role: Role

    def __str__(self) -> str:
        return actor(self.id, self.name)


class OpenSession(msgspec.Struct):
    """An entry of the list that a user sees. `current` is the session of this request."""

    id: int
    created_at: datetime
    last_seen_at: datetime
    ip_address: str
    user_agent: str
    current: bool


_OPEN = text("""
    INSERT INTO user_session (hash, user_id, ip_address, user_agent) VALUES (:hash, :user_id, :address, :agent)
""")

# By user_session_age; a few at each sign-in are enough.
_PRUNE = text("""
    DELETE FROM user_session WHERE id = ANY (ARRAY(
        SELECT id FROM user_session WHERE last_seen_at < now() - CAST(:idle AS interval)
        ORDER BY last_seen_at LIMIT 50 FOR UPDATE SKIP LOCKED))
""")

# By the unique hash and the user's primary key. Written once a minute, not with each request; a session that another
# request is writing is left alone.
_USER_OF = text("""
    WITH found AS (
        SELECT s.id AS session_id, s.last_seen_at, u.id, u.name, u.role
        FROM user_session s JOIN user_account u ON u.id = s.user_id
        WHERE s.hash = :hash AND u.disabled_at IS NULL
            AND s.last_seen_at > now() - CAST(:idle AS interval) AND s.created_at > now() - CAST(:absolute AS interval)
    ), seen AS (
        UPDATE user_session SET last_seen_at = now() WHERE id IN (
            SELECT s.id FROM user_session s JOIN found ON found.session_id = s.id
            WHERE CAST(:used AS boolean) AND s.last_seen_at < now() - interval '1 minute' FOR UPDATE OF s SKIP LOCKED)
    )
    SELECT id, name, role FROM found
""")

_CLOSE = text("DELETE FROM user_session WHERE hash = :hash")

# By user_session_of_user.
_CLOSE_ALL = text("DELETE FROM user_session WHERE user_id = :user_id")

_CLOSE_ONE = text("DELETE FROM user_session WHERE user_id = :user_id AND id = :id")

_OF_USER = text("""
    SELECT id, created_at, last_seen_at, ip_address, user_agent, hash = :hash AS current FROM user_session
    WHERE user_id = :user_id
        AND last_seen_at > now() - CAST(:idle AS interval) AND created_at > now() - CAST(:absolute AS interval)
    ORDER BY last_seen_at DESC, id DESC
""")

_LIMITS = {"idle": IDLE_TIMEOUT, "absolute": MAX_AGE}


async def open_session(session: AsyncSession, user_id: int, *, address: str, agent: str) -> str:
    """Return the token for the cookie. It cannot be read again."""
    token = secrets.token_urlsafe(32)
    await session.execute(_PRUNE, {"idle": IDLE_TIMEOUT})
    values = {
        "hash": digest_of(token),
        "user_id": user_id,
        "address": address[:_MAX_STORED],
        "agent": "".join(filter(str.isprintable, agent))[:_MAX_STORED],
    }
    await session.execute(_OPEN, values)
    return token


async def user_of(session: AsyncSession, token: str, *, used: bool = True) -> User | None:
    """Return None for an unknown token, a session idle for IDLE_TIMEOUT or older than MAX_AGE, and a disabled user.

    With `used=False` the request does not count as use of the session.
    """
    found = (await session.execute(_USER_OF, {"hash": digest_of(token), "used": used} | _LIMITS)).first()
    return User(found.id, found.name, Role.named(found.role)) if found else None


async def close(session: AsyncSession, token: str) -> None:
    await session.execute(_CLOSE, {"hash": digest_of(token)})


async def close_one(session: AsyncSession, user_id: int, session_id: int) -> None:
    """Another user's session is left alone."""
    await session.execute(_CLOSE_ONE, {"user_id": user_id, "id": session_id})


async def close_all(session: AsyncSession, user_id: int) -> None:
    await session.execute(_CLOSE_ALL, {"user_id": user_id})


async def open_sessions(session: AsyncSession, user_id: int, *, token: str) -> list[OpenSession]:
    """List the user's sessions, the last used first. `token` is the current one's."""
    rows = await session.execute(_OF_USER, {"user_id": user_id, "hash": digest_of(token)} | _LIMITS)
    return all_as(OpenSession, rows)

"""Users of the admin page. Each change is recorded with its actor."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Result, Row, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.access import api_keys, lockout, sessions
from mailing.access.passwords import hash_password
from mailing.access.roles import Role
from mailing.database.engine import Sessions, in_transaction, transaction
from mailing.errors import ConfigurationError, Conflict, FieldError, Invalid, NotFound
from mailing.events import record_event


class Account(msgspec.Struct):
    """A user as others see it. `issuer` is null for a user with a password here."""

    id: int
    name: str
    role: Role
    issuer: str | None
    created_at: datetime
    disabled_at: datetime | None


class KeyCounts(msgspec.Struct, frozen=True):
    """Counts of the API keys that a user created: revoked now, and still valid."""

    revoked: int
    live: int

    @property
    def details(self) -> dict[str, int]:
        """The counts for the event; none for a user without keys."""
        numbers = {"keys_revoked": self.revoked, "keys_live": self.live}
        return numbers if self.revoked or self.live else {}


_COLUMNS = "id, name, role, issuer, created_at, disabled_at"

# The table is small.
_ALL = text(f"SELECT {_COLUMNS} FROM user_account ORDER BY lower(name), id")  # noqa: S608 - its own constant

_BY_ID = text(f"SELECT {_COLUMNS} FROM user_account WHERE id = :id FOR UPDATE")  # noqa: S608 - its own constant

_BY_NAME = text(f"SELECT {_COLUMNS} FROM user_account WHERE lower(name) = lower(:name) AND issuer IS NULL")  # noqa: S608 - its own constant

_INSERT = text("INSERT INTO user_account (name, role, password_hash) VALUES (:name, :role, :hash) RETURNING id")

_ANY = text("SELECT EXISTS (SELECT FROM user_account)")

# If two processes start together, one creates the user.
_INSERT_FIRST = text("""
    INSERT INTO user_account (name, role, password_hash) VALUES ('admin', 'admin', :hash)
    ON CONFLICT (lower(name)) WHERE issuer IS NULL DO NOTHING RETURNING id
""")

_SET_PASSWORD = text("UPDATE user_account SET password_hash = :hash WHERE id = :id AND issuer IS NULL RETURNING id")

_SET_ROLE = text("UPDATE user_account SET role = :role WHERE id = :id")

_DISABLE = text("UPDATE user_account SET disabled_at = coalesce(disabled_at, now()) WHERE id = :id")

_ENABLE = text("UPDATE user_account SET disabled_at = NULL WHERE id = :id")

# Locked in the order of ids: if two admins demote each other at the same time, one is refused.
_ADMINS = text("""
    SELECT id FROM user_account WHERE role = 'admin' AND disabled_at IS NULL ORDER BY id FOR UPDATE
""")


async def create(session: AsyncSession, name: str, *, role: Role, password: str, by: str) -> int:
    """Return the id. Raise Invalid for a malformed name or weak password, Conflict for a name in use.

    Hashes the password before its first statement.
    """
    name = name.strip()
    if problems := api_keys.name_problems(name):
        raise Invalid(*problems)
    values = {"name": name, "role": str(role), "hash": await hash_password(password, names=[name])}
    try:
        async with session.begin_nested():
            user_id = int((await session.execute(_INSERT, values)).scalar_one())
    except IntegrityError as error:
        taken = FieldError("name", "is in use; choose another one")
        raise Conflict("A user with this name already exists.", taken) from error
    await record_event(session, "user.created", by=by, user_id=user_id, role=str(role))
    return user_id


async def create_first(maker: Sessions, password: str) -> bool:
    """Create the user `admin` if no user exists; return whether it was created. Raise ConfigurationError.

    The password is hashed between two transactions: while many processes start, it may take longer than one may idle.
    """
    async with transaction(maker) as session:
        if (await session.execute(_ANY)).scalar_one():
            return False
    try:
        values = {"hash": await hash_password(password, names=["admin"])}
    except Invalid as error:
        raise ConfigurationError([f"MAILING_ADMIN_PASSWORD {each.message}" for each in error.errors]) from None
    async with transaction(maker) as session:
        return (await session.execute(_INSERT_FIRST, values)).first() is not None


async def all_users(session: AsyncSession) -> list[Account]:
    return [_account(row) for row in await session.execute(_ALL)]


async def by_id(session: AsyncSession, user_id: int) -> Account:
    """Lock the row until the transaction ends."""
    return _found(await session.execute(_BY_ID, {"id": user_id}), user_id)


async def by_name(session: AsyncSession, name: str) -> Account:
    """Find a user with a password: names from an identity provider are not unique."""
    return _found(await session.execute(_BY_NAME, {"name": name}), "of this name")


async def set_password(session: AsyncSession, user_id: int, *, password_hash: str, by: str) -> None:
    """Set the password, end all sessions of the user and any lockout.

    Call `hash_password` before the transaction begins: many may be waiting for their hash.
    """
    if (await session.execute(_SET_PASSWORD, {"id": user_id, "hash": password_hash})).first() is None:
        await by_id(session, user_id)
        raise Conflict("This user signs in through the identity provider. Change the password there.")
    await sessions.close_all(session, user_id)
    await lockout.unlock(session, str(user_id))
    await record_event(session, "user.password_set", by=by, user_id=user_id)


async def reset_password(
    maker: Sessions, find: Callable[[AsyncSession], Awaitable[Account]], password: str, *, by: str
) -> None:
    """Set the password of another user. Raise Invalid for a weak one, and as `set_password`."""
    user = await in_transaction(maker, find)
    password_hash = await hash_password(password, names=[user.name])
    await in_transaction(maker, set_password, user.id, password_hash=password_hash, by=by)


async def set_role(session: AsyncSession, user_id: int, role: Role, *, by: str, revoke_keys: bool = False) -> KeyCounts:
    """Set the role, from the user's next request on. Keys are revoked only if the role is lowered."""
    if role < Role.ADMIN:
        await _ensure_admin_remains(session, user_id)
    before = (await by_id(session, user_id)).role
    await session.execute(_SET_ROLE, {"id": user_id, "role": str(role)})
    after = await _keys_after(session, user_id, by=by, revoke=revoke_keys and role < before)
    await record_event(session, "user.role_set", by=by, user_id=user_id, role=str(role), **after.details)
    return after


async def disable(session: AsyncSession, user_id: int, *, by: str, revoke_keys: bool = False) -> KeyCounts:
    """Disable sign-in and end all sessions. Commit, then await `api_keys.wait_until_revoked`."""
    await _ensure_admin_remains(session, user_id)
    await by_id(session, user_id)
    await session.execute(_DISABLE, {"id": user_id})
    await sessions.close_all(session, user_id)
    after = await _keys_after(session, user_id, by=by, revoke=revoke_keys)
    await record_event(session, "user.disabled", by=by, user_id=user_id, **after.details)
    return after


async def _keys_after(session: AsyncSession, user_id: int, *, by: str, revoke: bool) -> KeyCounts:
    revoked = await api_keys.revoke_all_of(session, user_id, by=by) if revoke else 0
    return KeyCounts(revoked=revoked, live=len(await api_keys.live_of(session, user_id)))


async def enable(session: AsyncSession, user_id: int, *, by: str) -> None:
    await by_id(session, user_id)
    await session.execute(_ENABLE, {"id": user_id})
    await record_event(session, "user.enabled", by=by, user_id=user_id)


async def _ensure_admin_remains(session: AsyncSession, user_id: int) -> None:
    admins = [row.id for row in await session.execute(_ADMINS)]
    if admins == [user_id]:
        raise Conflict("This is the last admin. Make another user an admin first.")


def _found(rows: Result[*tuple[Any, ...]], user: object) -> Account:
    if (row := rows.first()) is None:
        raise NotFound("There is no user %(user)s; mailing user list shows them.", user=user)
    return _account(row)


def _account(row: Row[Any]) -> Account:
    return Account(row.id, row.name, Role.named(row.role), row.issuer, row.created_at, row.disabled_at)

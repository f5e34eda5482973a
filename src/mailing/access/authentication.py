"""Sign-in with a name and password or through the identity provider, and sign-out.

A failure reveals nothing: a wrong name, a wrong password, a disabled user and a user of the identity provider get the
same message after the same time, and an unknown name is locked like a known one.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing import events
from mailing.access import lockout, users
from mailing.access import sessions as signed
from mailing.access.passwords import hash_password, matches
from mailing.access.roles import Role
from mailing.access.sessions import User, actor
from mailing.database.engine import Sessions, in_transaction, transaction
from mailing.database.rows import first_as
from mailing.errors import Conflict, Unauthorized


class BrowserInfo(Struct, frozen=True):
    """`address` is the client's, as the server's proxy settings find it."""

    address: str
    agent: str


class Identity(Struct, frozen=True):
    """A user as the identity provider names them. `role` follows from their groups."""

    issuer: str
    subject: str
    name: str
    role: Role


class OidcState(Struct, frozen=True):
    """Kept in the browser during the sign-in: without it the provider's answer is not accepted."""

    state: str
    nonce: str
    verifier: str
    next: str


class _Credentials(Struct, frozen=True):
    id: int
    name: str
    password_hash: str


# By user_account_name.
_FIND = text("""
    SELECT id, name, password_hash FROM user_account
    WHERE lower(name) = lower(:name) AND issuer IS NULL AND password_hash IS NOT NULL AND disabled_at IS NULL
""")

# Another transaction may change the password or disable the user while the password is verified, or wait for this one.
_STILL_VALID = text("""
    SELECT id FROM user_account WHERE id = :id AND password_hash = :password_hash AND disabled_at IS NULL
    FOR NO KEY UPDATE
""")

# By user_account_subject. Name and role are updated from the provider at each sign-in.
_UPSERT_USER = text("""
    INSERT INTO user_account (name, role, issuer, subject) VALUES (:name, :role, :issuer, :subject)
    ON CONFLICT (issuer, subject) WHERE issuer IS NOT NULL DO UPDATE SET name = excluded.name, role = excluded.role
    RETURNING id, disabled_at
""")


async def sign_in(sessions: Sessions, name: str, password: str, *, browser: BrowserInfo) -> str:
    """Return the token of a new session. Raise Unauthorized, or TooMany while locked out."""
    known = await in_transaction(sessions, _find, name)
    async with _verified(sessions, known, name, password=password, browser=browser) as (session, user):
        return await _open_session(session, user.id, user.name, browser)


async def change_password(sessions: Sessions, user: User, old: str, *, new: str, browser: BrowserInfo) -> str:
    """Check the old password as `sign_in` does, end all sessions of the user, and return the token of a new one."""
    known = await in_transaction(sessions, _find, user.name)
    if known is None or known.id != user.id:
        raise Conflict("This user signs in through the identity provider. Change the password there.")
    password_hash = await hash_password(new, names=[user.name])
    async with _verified(sessions, known, user.name, password=old, browser=browser) as (session, _):
        await users.set_password(session, user.id, password_hash=password_hash, by=str(user))
        return await signed.open_session(session, user.id, address=browser.address, agent=browser.agent)


@asynccontextmanager
async def _verified(
    sessions: Sessions, known: _Credentials | None, name: str, *, password: str, browser: BrowserInfo
) -> AsyncIterator[tuple[AsyncSession, _Credentials]]:
    """Verify the password without holding a connection meanwhile. Raise Unauthorized if it is wrong.

    The block runs in the transaction that has found the password still valid: no other changes it before the commit.
    """
    account = str(known.id) if known else f"nobody {name.casefold()}"
    locks = await in_transaction(sessions, lockout.count_try, account, address=browser.address)
    right = await matches(password, known.password_hash if known else None)
    async with transaction(sessions) as session:
        if known and right and (await session.execute(_STILL_VALID, asdict(known))).first():
            await lockout.clear_failures(session, account, address=browser.address)
            yield session, known
            return
        await _record_failure(session, known, browser, locks=locks)
    raise Unauthorized("The name or the password is wrong.")


async def sign_in_as(sessions: Sessions, identity: Identity, *, browser: BrowserInfo) -> str:
    """Sign in a user of the identity provider. Raise Unauthorized for a user who is disabled here."""
    values = {"issuer": identity.issuer, "subject": identity.subject, "name": identity.name}
    async with transaction(sessions) as session:
        user = (await session.execute(_UPSERT_USER, values | {"role": str(identity.role)})).one()
        if user.disabled_at is None:
            return await _open_session(session, user.id, identity.name, browser)
        await events.record_event(
            session, "user.sign_in_failed", by=actor(user.id, identity.name), address=browser.address
        )
    raise Unauthorized("This user is disabled here. Ask an admin.")


async def sign_out(session: AsyncSession, user: User, token: str) -> None:
    await signed.close(session, token)
    await events.record_event(session, "user.signed_out", by=str(user))


async def sign_out_everywhere(session: AsyncSession, user: User) -> None:
    await signed.close_all(session, user.id)
    await events.record_event(session, "user.signed_out_everywhere", by=str(user))


async def _find(session: AsyncSession, name: str) -> _Credentials | None:
    if not name.isprintable():  # PostgreSQL refuses NUL and surrogates
        return None
    return first_as(_Credentials, await session.execute(_FIND, {"name": name}))


async def _open_session(session: AsyncSession, user_id: int, name: str, browser: BrowserInfo) -> str:
    token = await signed.open_session(session, user_id, address=browser.address, agent=browser.agent)
    await events.record_event(session, "user.signed_in", by=actor(user_id, name), address=browser.address)
    return token


async def _record_failure(
    session: AsyncSession, known: _Credentials | None, browser: BrowserInfo, *, locks: bool
) -> None:
    """Record the name only if it exists: the text typed there may be a password."""
    by = actor(known.id, known.name) if known else "somebody"
    await events.record_event(session, "user.sign_in_failed", by=by, address=browser.address)
    if locks:
        await events.record_event(session, "user.locked_out", by=by, address=browser.address)

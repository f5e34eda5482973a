"""From a name and a password, or from what the identity provider says, to a session; and out again.

Whoever fails learns nothing: one sentence for a wrong name, a wrong password, a disabled user and one of the identity
provider's, after the same time; and a name that nobody has is locked like any other.
"""

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing import events
from mailing.access import lockout, users
from mailing.access import sessions as signed
from mailing.access.passwords import matches
from mailing.access.roles import Role
from mailing.access.sessions import User, actor
from mailing.database.engine import Sessions, transaction
from mailing.errors import Conflict, Unauthorized


class BrowserInfo(Struct, frozen=True):
    """`address` is the client's, as the server's proxy settings find it."""

    address: str
    agent: str


class Identity(Struct, frozen=True):
    """What the identity provider says; `role` follows from the groups there."""

    issuer: str
    subject: str
    name: str
    role: Role


class _Credentials(Struct, frozen=True):
    id: int
    name: str
    password_hash: str


# By user_account_name.
_FIND = text("""
    SELECT id, name, password_hash FROM user_account
    WHERE lower(name) = lower(:name) AND issuer IS NULL AND password_hash IS NOT NULL AND disabled_at IS NULL
""")

# A password changed, or a user disabled, while this one was being checked.
_STILL_VALID = text("""
    SELECT id FROM user_account WHERE id = :id AND password_hash = :hash AND disabled_at IS NULL FOR SHARE
""")

# By user_account_subject. Name and role are the provider's, afresh each time.
_UPSERT_USER = text("""
    INSERT INTO user_account (name, role, issuer, subject) VALUES (:name, :role, :issuer, :subject)
    ON CONFLICT (issuer, subject) WHERE issuer IS NOT NULL DO UPDATE SET name = excluded.name, role = excluded.role
    RETURNING id, disabled_at
""")


async def sign_in(sessions: Sessions, name: str, password: str, *, browser: BrowserInfo) -> str:
    """Returns the token of a new session. Raises Unauthorized, or TooMany while a lock holds."""
    async with transaction(sessions) as session:
        known = await _find(session, name)
    known = await _verify(sessions, known, name, password=password, browser=browser)
    async with transaction(sessions) as session:
        return await _open_session(session, known.id, known.name, browser)


async def change_password(sessions: Sessions, user: User, old: str, *, new: str, browser: BrowserInfo) -> str:
    """As `sign_in`, with the old password. All sessions of the user end; the token is a new one's."""
    async with transaction(sessions) as session:
        known = await _find(session, user.name)
    if known is None or known.id != user.id:
        raise Conflict("This user signs in through the identity provider; the password is changed there.")
    known = await _verify(sessions, known, user.name, password=old, browser=browser)
    async with transaction(sessions) as session:
        await users.set_password(session, user.id, new, by=str(user))
        return await signed.open_session(session, user.id, address=browser.address, agent=browser.agent)


async def _verify(
    sessions: Sessions, known: _Credentials | None, name: str, *, password: str, browser: BrowserInfo
) -> _Credentials:
    """No connection is held while the password is checked."""
    account = str(known.id) if known else f"nobody {name.casefold()}"
    async with transaction(sessions) as session:
        locks = await lockout.count_try(session, account, address=browser.address)
    right = await matches(password, known.password_hash if known else None)
    async with transaction(sessions) as session:
        if known and right and await _still_valid(session, known):
            await lockout.forgive(session, account, address=browser.address)
            return known
        await _record_failure(session, known, browser, locks=locks)
    raise Unauthorized("The name or the password is wrong.")


async def sign_in_as(sessions: Sessions, identity: Identity, *, browser: BrowserInfo) -> str:
    """As `sign_in`, for whom the identity provider vouches. Raises Unauthorized for a user who is disabled here."""
    values = {"issuer": identity.issuer, "subject": identity.subject, "name": identity.name}
    async with transaction(sessions) as session:
        user = (await session.execute(_UPSERT_USER, values | {"role": str(identity.role)})).one()
        if user.disabled_at is None:
            return await _open_session(session, user.id, identity.name, browser)
        await events.record_event(
            session, "user.sign_in_failed", by=actor(user.id, identity.name), address=browser.address
        )
    raise Unauthorized("This user is disabled here; ask an admin.")


async def sign_out(session: AsyncSession, user: User, token: str) -> None:
    await signed.close(session, token)
    await events.record_event(session, "user.signed_out", by=str(user))


async def sign_out_everywhere(session: AsyncSession, user: User) -> None:
    await signed.close_all(session, user.id)
    await events.record_event(session, "user.signed_out_everywhere", by=str(user))


async def _find(session: AsyncSession, name: str) -> _Credentials | None:
    if not name.isprintable():  # PostgreSQL takes no NUL and no surrogate
        return None
    found = (await session.execute(_FIND, {"name": name})).first()
    return _Credentials(*found) if found else None


async def _still_valid(session: AsyncSession, known: _Credentials) -> bool:
    values = {"id": known.id, "hash": known.password_hash}
    return (await session.execute(_STILL_VALID, values)).first() is not None


async def _open_session(session: AsyncSession, user_id: int, name: str, browser: BrowserInfo) -> str:
    token = await signed.open_session(session, user_id, address=browser.address, agent=browser.agent)
    await events.record_event(session, "user.signed_in", by=actor(user_id, name), address=browser.address)
    return token


async def _record_failure(
    session: AsyncSession, known: _Credentials | None, browser: BrowserInfo, *, locks: bool
) -> None:
    """The name is noted only where it is one: what was typed may be a password."""
    by = actor(known.id, known.name) if known else "somebody"
    await events.record_event(session, "user.sign_in_failed", by=by, address=browser.address)
    if locks:
        await events.record_event(session, "user.locked_out", by=by, address=browser.address)

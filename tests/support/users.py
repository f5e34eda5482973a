"""Users and their sessions, made for a test."""

from mailing.access import users
from mailing.access.roles import Role
from mailing.access.sessions import User, open_session, user_of
from mailing.database.engine import Sessions, transaction

PASSWORD = "correct horse battery"


async def made(sessions: Sessions, name: str = "anna", role: Role = Role.ADMIN) -> int:
    async with transaction(sessions) as session:
        return await users.create(session, name, role=role, password=PASSWORD, by="tests")


async def signed_in(sessions: Sessions, user_id: int) -> str:
    async with transaction(sessions) as session:
        return await open_session(session, user_id, address="127.0.0.1", agent="a browser")


async def who(sessions: Sessions, token: str) -> User | None:
    async with transaction(sessions) as session:
        return await user_of(session, token)

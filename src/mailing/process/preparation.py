"""Prepare a database for this version. It loads SQLAlchemy, which `mailing up` does while its children start."""

from mailing.access import users
from mailing.database.engine import open_engine, sessions
from mailing.database.schema import schema_fault


async def upgrade_schema(database_url: str) -> None:
    async with open_engine(database_url, application="mailing-migrate") as engine:
        if await schema_fault(engine):
            from mailing.database.migrations import migrate  # noqa: PLC0415 - Alembic, which only a new version needs

            await migrate(engine)


async def create_first_user(database_url: str, password: str) -> bool:
    async with open_engine(database_url, application="mailing-up") as engine:
        return await users.create_first(sessions(engine), password)

"""Migrate the schema. It loads Alembic: `database.schema` checks the schema without it."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from mailing.database.schema import MIGRATIONS, known_revisions, newer_schema, revision_of
from mailing.database.server_version import MIN_POSTGRESQL
from mailing.errors import MailingError


async def migrate(engine: AsyncEngine, revision: str = "head") -> None:
    """Migrate the schema to `revision`: all revisions in one transaction, one process at a time.

    Raise MailingError if the server is too old, the encoding is not UTF8, or the schema is newer.
    """
    async with engine.begin() as connection:
        await _refuse_unfit(connection)
        await connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7233150)")
        found = await revision_of(connection)
        if found is not None and found not in known_revisions():
            raise MailingError(newer_schema(found))
        await connection.run_sync(_run, revision)


def execute_script(connection: Connection, script: Path) -> None:
    """Execute a file of statements, for migrations. SQLAlchemy would prepare them, which allows only one."""
    raw = connection.connection.dbapi_connection
    raw.run_async(lambda driver: driver.execute(script.read_text("utf-8")))  # type: ignore[union-attr] # asyncpg's own


async def _refuse_unfit(connection: AsyncConnection) -> None:
    version = int((await connection.exec_driver_sql("SHOW server_version_num")).scalar_one())
    if version < MIN_POSTGRESQL * 10_000:
        raise MailingError(f"PostgreSQL {version // 10_000} is too old; {MIN_POSTGRESQL} or newer is needed")
    encoding = (await connection.exec_driver_sql("SHOW server_encoding")).scalar_one()
    if encoding != "UTF8":
        raise MailingError(f"the database's encoding is {encoding}; create one with CREATE DATABASE … ENCODING 'UTF8'")


def _run(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    if revision == "base":
        command.downgrade(config, revision)
    else:
        command.upgrade(config, revision)

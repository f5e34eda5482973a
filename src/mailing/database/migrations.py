"""Migrate the schema, and check that it is the one this version needs."""

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from mailing.errors import MailingError

MIN_POSTGRESQL = 15  # the oldest version that is tested

_PACKAGE = Path(__file__).parents[1]
# in the wheel the migrations are in the package, in the repository beside src
MIGRATIONS = next(path for path in (_PACKAGE / "migrations", _PACKAGE.parents[1] / "migrations") if path.is_dir())


async def migrate(engine: AsyncEngine, revision: str = "head") -> None:
    """Migrate the schema to `revision`: all revisions in one transaction, one process at a time.

    Raise MailingError if the server is too old, the encoding is not UTF8, or the schema is newer.
    """
    async with engine.begin() as connection:
        await _refuse_unfit(connection)
        await connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7233150)")
        found = await connection.run_sync(_revision)
        if found is not None and found not in _known():
            raise MailingError(_newer(found))
        await connection.run_sync(_run, revision)


def execute_script(connection: Connection, script: Path) -> None:
    """Execute a file of statements, for migrations. SQLAlchemy would prepare them, which allows only one."""
    raw = connection.connection.dbapi_connection
    raw.run_async(lambda driver: driver.execute(script.read_text("utf-8")))  # type: ignore[union-attr] # asyncpg's own


async def is_current(engine: AsyncEngine) -> bool:
    return await schema_fault(engine) is None


async def schema_fault(engine: AsyncEngine, *, migrate: str = "mailing migrate") -> str | None:
    """Return what is wrong with the schema and what to do, or None. `migrate` is the command to suggest."""
    async with engine.connect() as connection:
        found = await connection.run_sync(_revision)
    needed = _scripts().get_current_head()
    if found == needed:
        return None
    if found is None:
        return f"the database is empty, this program needs schema {needed}; run {migrate}"
    if found in _known():
        return f"the database's schema {found} is older than {needed}, which this program needs; run {migrate}"
    return _newer(found)


def _newer(found: str) -> str:
    needed = _scripts().get_current_head()
    return (
        f"the database's schema {found} is newer than {needed}, this program's; "
        "use the version of Mailing that migrated it, or a newer one"
    )


async def _refuse_unfit(connection: AsyncConnection) -> None:
    version = int((await connection.exec_driver_sql("SHOW server_version_num")).scalar_one())
    if version < MIN_POSTGRESQL * 10_000:
        raise MailingError(f"PostgreSQL {version // 10_000} is too old; {MIN_POSTGRESQL} or newer is needed")
    encoding = (await connection.exec_driver_sql("SHOW server_encoding")).scalar_one()
    if encoding != "UTF8":
        raise MailingError(f"the database's encoding is {encoding}; create one with CREATE DATABASE … ENCODING 'UTF8'")


def _run(connection: Connection, revision: str) -> None:
    config = _config()
    config.attributes["connection"] = connection
    if revision == "base":
        command.downgrade(config, revision)
    else:
        command.upgrade(config, revision)


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _known() -> set[str]:
    return {script.revision for script in _scripts().walk_revisions()}


@cache
def _scripts() -> ScriptDirectory:
    """Load the migrations, once for each process: it takes 0.1 s."""
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return config

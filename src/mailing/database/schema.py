"""Check that the schema is the one this version needs."""

import asyncio
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from mailing.database.connection_settings import COMMAND_LIMIT_S
from mailing.database.engine import open_engine
from mailing.database.error_messages import describe
from mailing.database.errors import DATABASE_ERRORS
from mailing.errors import MailingError

CHECK_INTERVAL_S = 0.1  # while a process waits for its database: one refused connection costs a millisecond

_PACKAGE = Path(__file__).parents[1]
# in the wheel the migrations are in the package, in the repository beside src
MIGRATIONS = next(path for path in (_PACKAGE / "migrations", _PACKAGE.parents[1] / "migrations") if path.is_dir())


async def is_current(engine: AsyncEngine) -> bool:
    return await schema_fault(engine) is None


async def schema_fault(engine: AsyncEngine, *, migrate: str = "mailing migrate") -> str | None:
    """Return what is wrong with the schema and what to do, or None. `migrate` is the command to suggest."""
    async with engine.connect() as connection:
        found = await revision_of(connection)
    needed = known_revisions()[-1]
    if found == needed:
        return None
    if found is None:
        return f"the database is empty, this program needs schema {needed}; run {migrate}"
    if found in known_revisions():
        return f"the database's schema {found} is older than {needed}, which this program needs; run {migrate}"
    return newer_schema(found)


async def require_schema(
    database_url: str,
    *,
    migrate: str = "mailing migrate",
    limit_s: float = COMMAND_LIMIT_S,
    wait_s: float = 0,
    on_wait: Callable[[str], object] | None = None,
) -> None:
    """Wait for the database and this version's schema. Raise the reason if either is missing after `wait_s`.

    `limit_s` is the process's own: behind PgBouncer an error says that its role needs it. `on_wait` is called once,
    with the reason, after a tenth of `wait_s`: `mailing up` and `mailing demo` create the database meanwhile.
    """
    give_up_at = time.monotonic() + wait_s
    tell_at = give_up_at - 0.9 * wait_s
    async with open_engine(database_url, application="mailing-cli", limit_s=limit_s) as engine:
        while True:
            try:
                fault = await schema_fault(engine, migrate=migrate)
                if fault is None:
                    return
                missing: Exception = MailingError(fault)
            except DATABASE_ERRORS as error:
                missing = error
            if time.monotonic() >= give_up_at:
                raise missing
            if on_wait and time.monotonic() >= tell_at:
                on_wait(describe(missing))
                on_wait = None
            await asyncio.sleep(CHECK_INTERVAL_S)


def newer_schema(found: str) -> str:
    needed = known_revisions()[-1]
    return (
        f"the database's schema {found} is newer than {needed}, this program's; "
        "use the version of Mailing that migrated it, or a newer one"
    )


async def revision_of(connection: AsyncConnection) -> str | None:
    """Return the schema's revision, None for an empty database."""
    if not await connection.scalar(_IS_MIGRATED):
        return None
    found: str | None = await connection.scalar(_REVISION)
    return found


_IS_MIGRATED = text("SELECT to_regclass('alembic_version') IS NOT NULL")
_REVISION = text("SELECT version_num FROM alembic_version")


@cache
def known_revisions() -> list[str]:
    """List the revisions, oldest first, from the names of their files: Alembic would take 0.2 s to load them."""
    return sorted(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("*.py"))

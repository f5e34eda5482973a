import hashlib
import uuid

import asyncpg
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError

from mailing.database.errors import transient
from mailing.database.migrations import migrate
from mailing.database.schema import MIGRATIONS, is_current, known_revisions
from mailing.errors import MailingError
from support.database import Database
from support.postgres import apply_schema, url_of


async def test_migrations_run_up_down_and_up_again(db: Database) -> None:
    assert await is_current(db.engine)
    await migrate(db.engine, "base")
    left = """
        SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'alembic_version%'
        UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd')"""
    assert await db.run(left) == []
    assert not await is_current(db.engine)
    await migrate(db.engine)
    assert await is_current(db.engine)


def test_the_revisions_that_files_are_named_by_are_those_of_alembic() -> None:
    scripts = ScriptDirectory(str(MIGRATIONS))
    assert known_revisions() == [script.revision for script in scripts.walk_revisions()][::-1]


def test_a_released_migration_never_changes() -> None:
    lines = [line.split() for line in (MIGRATIONS / "released.sha256").read_text().splitlines()]
    released = {name: digest for digest, name in lines}
    assert {"versions/0001_procrastinate.py", "versions/0001_procrastinate_3_10_0.sql"} <= released.keys()
    found = {name: hashlib.sha256((MIGRATIONS / name).read_bytes()).hexdigest() for name in released}
    assert found == released


async def test_every_table_index_and_trigger_says_what_it_serves(db: Database) -> None:
    """Keys and the constraints of a column need no comment: their names say it."""
    silent = """
        SELECT relname FROM pg_class c
        WHERE relnamespace = 'public'::regnamespace AND relname !~ '^(idx_)?(procrastinate|alembic)_'
          AND (relkind = 'r' OR relkind = 'i' AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = c.oid))
          AND obj_description(c.oid, 'pg_class') IS NULL
        UNION ALL
        SELECT tgname FROM pg_trigger
        WHERE NOT tgisinternal AND tgname NOT LIKE 'procrastinate_%' AND obj_description(oid, 'pg_trigger') IS NULL"""
    assert await db.run(silent) == []


async def test_triggers_of_messages_fire_checks_first_then_counters_then_what_relies_on_their_locks(
    db: Database,
) -> None:
    """PostgreSQL fires them in the order of their names."""
    fired = """
        SELECT tgname FROM pg_trigger
        WHERE tgrelid = 'message'::regclass AND NOT tgisinternal AND tgtype & 2 = 0 AND tgtype & 16 <> 0
        ORDER BY tgname"""
    assert [row.tgname for row in await db.run(fired)] == [
        *("00_check_transitions", "10_count_moved", "20_throughput", "30_watermark_moved", "40_leases")
    ]


async def test_a_database_in_another_encoding_is_refused_with_the_remedy(database_url: str) -> None:
    """Psycopg hands out bytes from SQL_ASCII: the queue would know none of its tasks."""
    name = f"ascii_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(database_url)
    await admin.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(MailingError, match="encoding is SQL_ASCII; create one with"):
        await apply_schema(url_of(database_url, name))
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.mark.parametrize(
    ("statement", "passes"),
    [
        ("SELECT 1 / 0", False),
        ("SELECT no_such_column", False),
        ("INSERT INTO client (phone, operator_code, timezone) VALUES ('x', '916', 'UTC')", False),
        ("SELECT pg_terminate_backend(pg_backend_pid())", True),
        ("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'deadlock_detected'; END $$", True),
        ("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'lock_not_available'; END $$", True),
    ],
)
async def test_only_what_may_work_a_moment_later_is_tried_again(db: Database, statement: str, *, passes: bool) -> None:
    caught = False
    try:
        async with db.engine.connect() as connection:
            await connection.exec_driver_sql(statement)
    except transient():
        caught = True
    except DBAPIError:
        pass
    assert caught is passes

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from mailing import db


async def test_migrations_run_up_down_and_up_again(engine: AsyncEngine, database_url: str) -> None:
    assert await db.is_current(engine)
    await db.migrate(engine, "base")
    connection = await asyncpg.connect(database_url)
    left = await connection.fetch("""
        SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'alembic_version%'
        UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd')""")
    await connection.close()
    assert left == []
    assert not await db.is_current(engine)
    await db.migrate(engine)
    assert await db.is_current(engine)

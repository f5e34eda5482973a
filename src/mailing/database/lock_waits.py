"""Find the process of PostgreSQL that keeps others waiting for a lock."""

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.rows import first_as

MIN_WAIT_S = 3.0  # acts and imports wait for each other for a moment


class Blocker(Struct, frozen=True):
    """`tables` are those that not even a reader can use; None: rows only. A prepared transaction has pid 0."""

    pid: int
    usename: str | None
    application_name: str | None
    tables: str | None
    waiting: int
    longest_s: float


# Whatever the user may see: pg_locks, and the names of the others in pg_stat_activity. Reads no table that could be
# locked. Whoever waits for another is not to blame, nor is an autovacuum that truncates a table for a moment.
_BLOCKER = text("""
    WITH waiting AS (
        SELECT unnest(pg_blocking_pids(pid)) AS holder, pid AS waiter,
            coalesce(CAST(extract(epoch FROM clock_timestamp() - waitstart) AS float), 0) AS for_s
        FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = current_database()
    ), locked AS (
        SELECT pid AS holder, string_agg(relname, ', ' ORDER BY relname) AS tables
        FROM pg_locks JOIN pg_stat_activity USING (pid) JOIN pg_class c ON c.oid = relation
        WHERE granted AND mode = 'AccessExclusiveLock' AND datname = current_database() AND usename IS NOT NULL
            AND relkind = 'r' AND relpersistence <> 't' AND relnamespace <> 'pg_catalog'::regnamespace
        GROUP BY pid
    )
    SELECT holder AS pid, usename, application_name, tables, count(DISTINCT waiter) AS waiting,
        coalesce(max(for_s), 0) AS longest_s
    FROM locked FULL JOIN waiting USING (holder) LEFT JOIN pg_stat_activity ON pid = holder
    WHERE holder NOT IN (SELECT waiter FROM waiting)
    GROUP BY holder, usename, application_name, tables
    HAVING tables IS NOT NULL OR max(for_s) >= :min_wait_s
    ORDER BY longest_s DESC, holder LIMIT 1
""")


async def find_blocker(session: AsyncSession) -> Blocker | None:
    """Return the process that locks a table or has kept another waiting for MIN_WAIT_S, the longest wait first."""
    return first_as(Blocker, await session.execute(_BLOCKER, {"min_wait_s": MIN_WAIT_S}))

"""How many index entries PostgreSQL has written, counted from its own statistics."""

from sqlalchemy import text

from mailing.database.engine import Sessions, transaction

_WRITES = text("""
    SELECT relname AS "table", n_tup_ins + n_tup_upd - n_tup_hot_upd AS writes
    FROM pg_stat_user_tables WHERE relname = ANY(:tables)
""")
# A BRIN index has an entry for a range of pages, not for a row.
_PREDICATES = text("""
    SELECT i.indrelid::regclass::text AS "table", coalesce(pg_get_expr(i.indpred, i.indrelid), 'true') AS predicate
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
    WHERE i.indrelid::regclass::text = ANY(:tables) AND a.amname <> 'brin'
""")


class IndexEntries:
    """Counts entries step by step. Between two calls of `written`, all rows must have been written alike.

    An insert and an update write an entry in each index that has the new row; a HOT update writes none.
    """

    def __init__(self, sessions: Sessions, *tables: str) -> None:
        self._sessions = sessions
        self._tables = list(tables)
        self._writes: dict[str, int] = {}

    async def written(self) -> int:
        """Return how many entries were written since the last call."""
        async with self._sessions() as session:
            await session.execute(text("SELECT pg_stat_force_next_flush()"))
        async with transaction(self._sessions) as session:
            found = await session.execute(_WRITES, {"tables": self._tables})
            writes = {row.table: row.writes for row in found}
            entries = 0.0
            for row in await session.execute(_PREDICATES, {"tables": self._tables}):
                share = await session.scalar(text(f"SELECT avg(({row.predicate})::int)::float FROM {row.table}"))
                entries += (writes[row.table] - self._writes.get(row.table, 0)) * (share or 0.0)
        self._writes = writes
        return round(entries)

"""How many index entries PostgreSQL has written, by what a transaction has counted of itself."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_WRITES = text("""
    SELECT relname AS "table", n_tup_ins + n_tup_upd - n_tup_hot_upd AS writes
    FROM pg_stat_xact_user_tables WHERE relname = ANY(:tables)
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

    def __init__(self, session: AsyncSession, *tables: str) -> None:
        self._session = session
        self._tables = {"tables": list(tables)}
        self._writes: dict[str, int] = {}

    async def written(self) -> int:
        """Return how many entries were written since the last call."""
        writes = {row.table: row.writes for row in await self._session.execute(_WRITES, self._tables)}
        entries = 0.0
        for row in await self._session.execute(_PREDICATES, self._tables):
            share = await self._session.scalar(text(f"SELECT avg(({row.predicate})::int)::float FROM {row.table}"))
            entries += (writes[row.table] - self._writes.get(row.table, 0)) * (share or 0.0)
        self._writes = writes
        return round(entries)

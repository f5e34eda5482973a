"""Databases with the schema that tests use in turn, emptied between them, and connections that the next test uses.

Both of its own would cost a test more than what it does: PostgreSQL copies 400 files, and for each connection it reads
the catalog, compiles the triggers and answers what the driver asks about types.
"""

import asyncio
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import asyncpg
import psycopg
from psycopg.sql import SQL, Composed, Identifier

from support.postgres import url_of

PREFIX = "test_"
MAX_IDLE = 12  # connections of this process, all of which the server counts

# What a test may change beside rows: the schema, grants, settings, and the statistics of ANALYZE and VACUUM
_CATALOG = """
    SELECT array[
        (SELECT row(count(*), max(xmin::text::bigint))::text FROM pg_namespace WHERE nspname !~ '^pg_'),
        (SELECT row(count(*), max(xmin::text::bigint))::text FROM pg_depend WHERE objid >= 16384),
        (SELECT row(count(*), max(xmin::text::bigint))::text FROM pg_attribute WHERE attrelid >= 16384),
        (SELECT row(count(*), max(xmin::text::bigint))::text FROM pg_proc WHERE oid >= 16384),
        (SELECT row(count(*), max(xmin::text::bigint))::text FROM pg_trigger),
        (SELECT row(count(*), max(xmin::text::bigint))::text FROM pg_index WHERE indexrelid >= 16384),
        (SELECT row(count(*), max(xmin::text::bigint))::text FROM pg_statistic WHERE starelid >= 16384),
        (SELECT row(count(*), max(xmin::text::bigint))::text FROM pg_db_role_setting
            WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())),
        (SELECT string_agg(concat(oid, relname, relowner, relacl, reloptions, CASE relkind WHEN 'r' THEN reltuples END),
                '' ORDER BY oid) FROM pg_class WHERE oid >= 16384)
    ]
"""
_SIZES = """
    SELECT jsonb_agg(c)::text
    FROM (SELECT oid, relpages, reltuples, relallvisible FROM pg_class WHERE oid >= 16384) AS c
"""
# The triggers of `Database.after_write`, and what ANALYZE and VACUUM have counted
_UNDO = """
    DROP FUNCTION IF EXISTS fail CASCADE;
    DELETE FROM pg_statistic WHERE starelid >= 16384;
    UPDATE pg_class AS c SET relpages = s.relpages, reltuples = s.reltuples, relallvisible = s.relallvisible
    FROM jsonb_to_recordset({}) AS s (oid oid, relpages int, reltuples real, relallvisible int) WHERE s.oid = c.oid
"""
_TABLES = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
# TRUNCATE makes new files for a table and each index, and other connections plan their statements again: 4 ms.
_WORTH_TRUNCATE = _TABLES + " AND pg_relation_size(oid) + coalesce(pg_relation_size(reltoastrelid), 0) > 128 * 1024"
_END_OTHERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND pid <> ALL(%s)
"""

_connect = asyncpg.connect
_idle: list["KeptConnection"] = []  # the last used at the end


class KeptConnection(asyncpg.Connection):  # type: ignore[misc] # asyncpg has no types
    """A connection that another test may use once it was closed in good order."""

    arguments = ""

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncpg's own parameter
        if self in _idle:
            return
        if self.is_closed():
            await super().close(timeout=timeout)
            return
        await self.reset(timeout=timeout)
        _idle.append(self)
        if len(_idle) > MAX_IDLE:
            _idle.pop(0).terminate()


@contextmanager
def kept_connections() -> Iterator[None]:
    """Keep the connections of this loop to such databases until the block ends."""
    asyncpg.connect = partial(connect, loop=asyncio.get_running_loop())
    try:
        yield
    finally:
        asyncpg.connect = _connect
        end_idle_connections()


async def connect(
    dsn: str | None = None, *, loop: asyncio.AbstractEventLoop, **arguments: object
) -> asyncpg.Connection:
    """As `asyncpg.connect`."""
    key = repr((dsn, sorted(arguments.items())))
    if PREFIX not in key or asyncio.get_running_loop() is not loop:
        return await _connect(dsn, **arguments)
    for kept in [each for each in reversed(_idle) if each.arguments == key]:
        _idle.remove(kept)
        if not kept.is_closed():
            return kept
    connection = await _connect(dsn, **arguments, connection_class=KeptConnection)
    connection.arguments = key
    return connection


def end_idle_connections() -> None:
    """Let the next connections be new ones, as after a change of settings that a connection takes when it begins."""
    for connection in _idle:
        connection.terminate()
    _idle.clear()


class DatabaseCopy:
    """A copy of the template. `url` is its owner's."""

    def __init__(self, server: psycopg.Connection, server_url: str) -> None:
        self._server = server
        name = f"{PREFIX}{uuid.uuid4().hex}"
        self._name = Identifier(name)
        self.url = url_of(server_url, name)
        server.execute(SQL("CREATE DATABASE {} TEMPLATE mailing_template STRATEGY file_copy").format(self._name))
        self._own = psycopg.connect(self.url, autocommit=True)
        # else the copy would count as a restored backup
        self._own.execute("UPDATE installation SET database_identity = database_identity()")
        self._own.execute("SET session_replication_role = replica")  # no triggers
        tables = [name for (name,) in self._own.execute(_TABLES)]
        self._seeded = [name for name in tables if self._has_rows(name)]
        self._read_seeds = _read(self._seeded)
        self._seeds = self._own.execute(self._read_seeds).fetchone() or ()
        self._delete = _delete(name for name in tables if name not in self._seeded)
        self._lock = SQL("LOCK TABLE {} IN SHARE MODE").format(SQL(", ").join(map(Identifier, tables)))
        (sizes,) = self._own.execute(_SIZES).fetchone() or ()
        self._undo = SQL(_UNDO).format(sizes)
        self._catalog = self._state_of_catalog()

    def empty(self) -> bool:
        """Return whether it is as it was at first: not if a test changed more, or ended this connection."""
        try:
            kept = [each.get_server_pid() for each in _idle]
            others = self._own.execute(_END_OTHERS, [kept]).rowcount
            if self._state_of_catalog() != self._catalog:
                self._own.execute(self._undo)
                if self._state_of_catalog() != self._catalog:
                    return False
            with self._own.transaction():
                if others:
                    self._own.execute(self._lock)  # wait for what they were committing
                self._delete_rows()
        except psycopg.OperationalError:
            return False
        return True

    def drop(self) -> None:
        self._own.close()
        end_idle_connections()
        self._server.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(self._name))

    def _state_of_catalog(self) -> object:
        return self._own.execute(_CATALOG).fetchone()

    def _has_rows(self, name: str) -> bool:
        return self._own.execute(SQL("SELECT FROM {} LIMIT 1").format(Identifier(name))).rowcount == 1

    def _delete_rows(self) -> None:
        large = [Identifier(name) for (name,) in self._own.execute(_WORTH_TRUNCATE) if name not in self._seeded]
        if large:
            self._own.execute(SQL("TRUNCATE {} CASCADE").format(SQL(", ").join(large)))
        self._own.execute(self._delete)
        if self._own.execute(self._read_seeds).fetchone() != self._seeds:
            self._own.execute(SQL("; ").join(map(_write, self._seeded, self._seeds)))


def _read(tables: Iterable[str]) -> Composed:
    """Return a statement that reads all rows, a column for each table."""
    columns = (SQL("(SELECT jsonb_agg(t)::text FROM {} t)").format(Identifier(name)) for name in tables)
    return SQL("SELECT {}").format(SQL(", ").join(columns))


def _write(table: str, rows: str) -> Composed:
    """Return the statements that give a table these rows alone."""
    return SQL("DELETE FROM {0}; INSERT INTO {0} SELECT (jsonb_populate_recordset(NULL::{0}, {1})).*").format(
        Identifier(table), rows
    )


def _delete(tables: Iterable[str]) -> Composed:
    """Return one statement, which is planned once, to delete all rows and to start all sequences again."""
    deletes = (SQL("{0} AS (DELETE FROM {0})").format(Identifier(name)) for name in tables)
    every = SQL(", ").join(deletes)
    return SQL("WITH {} SELECT setval(seqrelid, seqstart, false) FROM pg_sequence").format(every)

"""A test's database: what it reads, writes and waits for by SQL."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from mailing.database import engine as engine_
from mailing.database.engine import Sessions, in_transaction, open_engine, transaction
from support.answers import Json
from support.processes import becomes

P = ParamSpec("P")
T = TypeVar("T")

LOCK_WAITS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
# Rows of sequential scans and entries of indexes. The connection itself has counted them; the database's statistics get
# them later, and have those of earlier tests.
READ = """
    SELECT sum(pg_stat_get_xact_tuples_returned(oid))::int FROM pg_class WHERE relnamespace = 'public'::regnamespace"""
PLAN_LOCK_WAITS = """
    SELECT count(*) FROM pg_locks WHERE relation = 'plan_lock'::regclass AND NOT granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
CONFLICT = "RAISE EXCEPTION 'conflict' USING ERRCODE = 'serialization_failure'"
# One row of each status as the CHECK of the schema wants it; the clients need not exist.
ADD_MESSAGES = """
    INSERT INTO message (mailing_id, client_id, status, counted_attempts, claim_no, maybe_accepted, due_at, closes_at,
                         lease_until, phone, text_revision, finished_at)
    SELECT :mailing_id, :first_client + n, status, tries, tries, status = 'unknown', now(), now() + interval '1 h',
        CASE status WHEN 'sending' THEN now() + interval '1 min' END,
        CASE tries WHEN 1 THEN '79160000000' END, CASE tries WHEN 1 THEN 1 END,
        CASE WHEN status NOT IN ('pending', 'sending') THEN now() END
    FROM (
        SELECT status, n - 1 AS n, CASE WHEN status IN ('pending', 'cancelled', 'expired') THEN 0 ELSE 1 END AS tries
        FROM unnest(CAST(:statuses AS text[])) WITH ORDINALITY AS given (status, n)
    ) AS s ORDER BY n RETURNING id"""


@dataclass(frozen=True)
class Database:
    engine: AsyncEngine

    @cached_property
    def sessions(self) -> Sessions:
        return engine_.sessions(self.engine)

    async def commit(
        self, work: Callable[Concatenate[AsyncSession, P], Awaitable[T]], *arguments: P.args, **more: P.kwargs
    ) -> T:
        """Do this work of the product in a transaction of its own."""
        return await in_transaction(self.sessions, work, *arguments, **more)

    async def commit_counting(
        self, work: Callable[Concatenate[AsyncSession, P], Awaitable[T]], *arguments: P.args, **more: P.kwargs
    ) -> tuple[int, T]:
        """Do work as `commit` does. Return how many rows and index entries it has read, too."""
        async with transaction(self.sessions) as session:
            before = await session.scalar(text(READ))
            done = await work(session, *arguments, **more)
            return await session.scalar(text(READ)) - before, done

    async def run(self, statement: str, **values: object) -> Sequence[Row[*tuple[Any, ...]]]:
        """In a transaction of its own; what it returns, if it returns rows."""
        async with self.engine.begin() as connection:
            result = await connection.execute(text(statement), values)
            return result.all() if result.returns_rows else []

    async def value(self, statement: str, **values: object) -> Any:  # noqa: ANN401 - a column
        return (await self.run(statement, **values))[0][0]

    @asynccontextmanager
    async def holding(self, lock: str) -> AsyncIterator[None]:
        """Somebody's transaction holds what this statement locks, until the block ends."""
        async with self.engine.begin() as connection:
            await connection.exec_driver_sql(lock)
            yield

    async def after_write(self, table: str, body: str, *, at_commit: bool = False) -> None:
        """From now on the server does this when it has inserted or changed a row, or when it commits that."""
        kind, when = ("CONSTRAINT TRIGGER", "DEFERRABLE INITIALLY DEFERRED") if at_commit else ("TRIGGER", "")
        function = f"CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NULL; END $$"
        trigger = f"CREATE {kind} fail AFTER INSERT OR UPDATE ON {table} {when} FOR EACH ROW EXECUTE FUNCTION fail()"
        await self.run(function)
        await self.run(trigger)

    async def comes(self, statement: str, answer: object) -> None:
        """Wait until the statement's value is this one."""
        await becomes(lambda: self.value(statement), answer)

    async def add_client(self, *, phone: str = "79161234567", tag: str | None = None) -> int:
        statement = """
            INSERT INTO client (phone, operator_code, tag, timezone)
            VALUES (:phone, substr(:phone, 2, 3), :tag, 'Europe/Moscow') RETURNING id"""
        return int(await self.value(statement, phone=phone, tag=tag))

    async def add_clients(self, count: int, *, timezone: str = "UTC", tag: str | None = None) -> list[int]:
        """Phones go on after those of earlier calls."""
        statement = """
            INSERT INTO client (phone, operator_code, tag, timezone)
            SELECT '7916' || lpad((n + (SELECT coalesce(max(id), 0) FROM client))::text, 7, '0'), '916', :tag, :timezone
            FROM generate_series(1, CAST(:count AS int)) n RETURNING id"""
        return [row.id for row in await self.run(statement, count=count, timezone=timezone, tag=tag)]

    async def add_mailing(self, *, status: str = "running", text: str = "Hello", is_planned: bool = True) -> int:
        """Without an end near; drafts and scheduled ones start in an hour, others began an hour ago and are planned."""
        statement = """
            INSERT INTO mailing (text, starts_at, ends_at, status, planned_revision, started_at, released_revision,
                released_at, released_by)
            SELECT CAST(:text AS text), now() + start, now() + interval '1 day', CAST(:status AS text),
                CASE WHEN start < interval '0' AND :is_planned THEN 1 ELSE 0 END,
                CASE WHEN start < interval '0' THEN now() + start END,
                released, CASE released WHEN 1 THEN now() END, CASE released WHEN 1 THEN 'tests' END
            FROM (SELECT
                    CASE WHEN :status IN ('draft', 'scheduled') THEN interval '1 h' ELSE interval '-1 h' END AS start,
                    CASE WHEN :status <> 'draft' THEN 1 END AS released) AS s
            RETURNING id"""
        return int(await self.value(statement, status=status, text=text, is_planned=is_planned))

    async def add_messages(self, mailing_id: int, statuses: Sequence[str], *, first_client: int = 1) -> list[int]:
        """Add a message of each status, for clients with the ids `first_client`, `first_client` + 1 and so on."""
        return [
            row.id
            for row in await self.run(
                ADD_MESSAGES, mailing_id=mailing_id, statuses=list(statuses), first_client=first_client
            )
        ]

    async def add_mailing_of(
        self, statuses: Sequence[str], *, first_client: int = 1, status: str = "running", text: str = "Hello"
    ) -> tuple[int, list[int]]:
        """Add a mailing with a message of each status; return its id and theirs."""
        mailing_id = await self.add_mailing(status=status, text=text)
        return mailing_id, await self.add_messages(mailing_id, statuses, first_client=first_client)

    async def add_audience(self, statuses: Sequence[str], *, status: str = "running") -> tuple[int, list[int]]:
        """For clients that exist."""
        clients = await self.add_clients(len(statuses), timezone="Europe/Moscow")
        return await self.add_mailing_of(statuses, first_client=min(clients, default=1), status=status)

    async def add_attempt(self, message_id: int, outcome: str, *, number: int = 1, ago: str = "0 s") -> None:
        statement = f"""
            INSERT INTO attempt (message_id, mailing_id, number, started_at, duration_ms, outcome, http_status, code)
            SELECT id, mailing_id, :number, now() - interval '{ago}', 12, :outcome, 200, 0
            FROM message WHERE id = :id"""
        await self.run(statement, id=message_id, number=number, outcome=outcome)

    async def add_receipt(self, message_id: int, state: int, code: str | None = None) -> None:
        """Twelve seconds after the message was finished."""
        statement = """
            INSERT INTO receipt (message_id, mailing_id, state, code, at)
            SELECT id, mailing_id, :state, :code, coalesce(finished_at, now()) + interval '12 s'
            FROM message WHERE id = :id"""
        await self.run(statement, id=message_id, state=state, code=code)

    async def statuses(self, mailing_id: int) -> dict[str, int]:
        """Count the rows, and require that the counters agree."""
        counted = await self.run(
            "SELECT status, count(*) FROM message WHERE mailing_id = :id GROUP BY status", id=mailing_id
        )
        by_rows = dict(tuple(each) for each in counted)
        [row] = await self.run("SELECT * FROM mailing_counts WHERE mailing_id = :id", id=mailing_id)
        counters = row._asdict()
        assert counters.pop("mailing_id") == mailing_id
        assert counters.pop("planned") == sum(by_rows.values())
        assert {status: count for status, count in counters.items() if count} == by_rows
        return by_rows

    async def mailing(self, mailing_id: int) -> Json:
        [row] = await self.run("SELECT * FROM mailing WHERE id = :id", id=mailing_id)
        return row._asdict()

    async def events(self, kind: str = "%") -> list[tuple[str, str, int | None, Json]]:
        """Kind, actor, mailing and detail, in order."""
        found = await self.run(
            "SELECT kind, actor, mailing_id, detail FROM event WHERE kind LIKE :kind ORDER BY id", kind=kind
        )
        return [(each.kind, each.actor, each.mailing_id, each.detail) for each in found]

    async def kinds(self) -> list[str]:
        return [kind for kind, *_ in await self.events()]

    async def jobs(self, *, after: int = 0) -> list[tuple[str, int, datetime | None]]:
        rows = await self.run(
            """SELECT task_name, (args->>'mailing_id')::int, scheduled_at FROM procrastinate_jobs
            WHERE id > :after ORDER BY id""",
            after=after,
        )
        return [(each[0], each[1], each[2]) for each in rows]

    async def jobs_of(self, mailing_id: int) -> set[str]:
        """Return the tasks of the mailing's jobs that have no scheduled time."""
        found = await self.run(
            """SELECT DISTINCT task_name FROM procrastinate_jobs
            WHERE args->>'mailing_id' = CAST(:id AS text) AND scheduled_at IS NULL""",
            id=str(mailing_id),
        )
        return {each.task_name for each in found}

    async def newest_job(self) -> int:
        return int(await self.value("SELECT coalesce(max(id), 0) FROM procrastinate_jobs"))


@asynccontextmanager
async def open_database(url: str, *, pool_size: int = 1, limit_s: float = 60) -> AsyncIterator[Database]:
    async with open_engine(url, application="tests", pool_size=pool_size, limit_s=limit_s) as engine:
        yield Database(engine)

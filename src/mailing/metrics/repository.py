"""How the service stands, read for `/metrics`. Nothing here grows with messages that have ended."""

import msgspec
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.gateway import repository
from mailing.gateway.repository import GatewayState
from mailing.job_queue import inspection
from mailing.job_queue.inspection import Jobs, standing
from mailing.messages.states import MessageStatus
from mailing.observability import counters as tallies

MAX_COUNTED = 10_000  # pending messages, looked at one by one


class Connections(msgspec.Struct, frozen=True):
    """Of one part of Mailing, such as api; `state` is busy, idle or hidden."""

    part: str
    state: str
    count: int


class Server(msgspec.Struct, frozen=True):
    """Connections that the server has, of all programs, and how many it lets in."""

    used: int
    limit: int


class Audits(msgspec.Struct, frozen=True):
    drift: int
    newest_age_s: float | None


class Reports(msgspec.Struct, frozen=True):
    """`newest_age_s` is None where none was ever sent."""

    overdue: int
    newest_age_s: float | None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One reading. `due` and `waiting` stop at COUNTED_UPTO."""

    messages: dict[str, int]
    mailings: dict[str, int]
    due_age_s: float
    due: int
    waiting: dict[str, int]
    gateway: GatewayState
    jobs: list[Jobs]
    workers: int
    connections: list[Connections]
    server: Server
    audits: Audits
    reports: Reports
    tallies: tallies.Counts


async def read(session: AsyncSession) -> Snapshot:
    return Snapshot(
        messages=await _messages(session),
        mailings=await _by_name(session, _MAILINGS),
        due_age_s=(await session.execute(_DUE_AGE)).scalar_one(),
        due=(await session.execute(_DUE)).scalar_one(),
        waiting=await _by_name(session, _WAITING),
        gateway=await repository.read(session),
        jobs=await standing(session),
        workers=await inspection.workers(session),
        connections=[Connections(*row) for row in await session.execute(_CONNECTIONS)],
        server=Server(*(await session.execute(_SERVER)).one()),
        audits=Audits(*(await session.execute(_AUDITS)).one()),
        reports=Reports(*(await session.execute(_REPORTS)).one()),
        tallies=await tallies.totals(session),
    )


# One row a mailing, tests left out, as in the statistics.
_MESSAGES = text(f"""
    SELECT {", ".join(f"coalesce(sum(c.{status}), 0)::bigint" for status in MessageStatus)}
    FROM mailing_counts c JOIN mailing g ON g.id = c.mailing_id WHERE g.test_of_mailing_id IS NULL
""")  # noqa: S608 - composed from constants of this module

_MAILINGS = text("""
    SELECT status, count(*) FROM mailing WHERE deleted_at IS NULL AND test_of_mailing_id IS NULL GROUP BY status
""")

# One probe of message_due for each running mailing. What a pause or an edit held back is due since then.
_DUE_AGE = text("""
    SELECT coalesce(max(extract(epoch FROM now() - greatest(m.due_at, g.updated_at))), 0)::float
    FROM mailing g CROSS JOIN LATERAL (
        SELECT due_at FROM message
        WHERE mailing_id = g.id AND status = 'pending' AND due_at <= now() AND closes_at > now()
        ORDER BY due_at LIMIT 1
    ) m
    WHERE g.status = 'running' AND now() < g.ends_at
""")

# Index: message_due, alone. 10,000: 50 ms on a busy machine.
_DUE = text(f"""
    SELECT count(*) FROM (
        SELECT FROM mailing g CROSS JOIN LATERAL (
            SELECT FROM message
            WHERE mailing_id = g.id AND status = 'pending' AND due_at <= now() AND closes_at > now()
            ORDER BY due_at LIMIT {MAX_COUNTED}
        ) m
        WHERE g.status = 'running' AND now() < g.ends_at LIMIT {MAX_COUNTED}
    ) counted
""")  # noqa: S608 - composed from constants of this module

# Index: message_due, and each message's row. 10,000: 55 ms on a busy machine.
_WAITING = text(f"""
    SELECT coalesce(wait_reason, 'window'), count(*) FROM (
        SELECT m.wait_reason FROM mailing g CROSS JOIN LATERAL (
            SELECT wait_reason FROM message WHERE mailing_id = g.id AND status = 'pending' AND due_at > now()
            ORDER BY due_at LIMIT {MAX_COUNTED}
        ) m
        WHERE g.status IN ('running', 'paused') LIMIT {MAX_COUNTED}
    ) counted GROUP BY 1
""")  # noqa: S608 - composed from constants of this module

# Parts as `db.create_engine` and the queue name themselves. Of another role's connections the
# server tells no state.
_CONNECTIONS = text("""
    SELECT substr(application_name, 9),
        CASE WHEN state IS NULL THEN 'hidden' WHEN state = 'idle' THEN 'idle' ELSE 'busy' END, count(*)
    FROM pg_stat_activity
    WHERE datname = current_database()
      AND application_name IN ('mailing-api', 'mailing-worker', 'mailing-queue', 'mailing-cli')
    GROUP BY 1, 2
""")

_SERVER = text("""
    SELECT sum(numbackends)::int, current_setting('max_connections')::int FROM pg_stat_database
""")

# One row a mailing.
_AUDITS = text("""
    SELECT coalesce(sum(drift), 0)::bigint, extract(epoch FROM now() - max(at))::float FROM counter_audit
""")

# Index: the primary key, and the month's rows.
_REPORTS = text("""
    SELECT count(*) FILTER (WHERE sent_at IS NULL AND (attempts > 0 OR due_at <= now())),
        extract(epoch FROM now() - max(sent_at))::float
    FROM report WHERE day > current_date - 32
""")


async def _messages(session: AsyncSession) -> dict[str, int]:
    counts = (await session.execute(_MESSAGES)).one()
    return dict(zip(MessageStatus, counts, strict=True))


async def _by_name(session: AsyncSession, statement: TextClause) -> dict[str, int]:
    return {name: count for name, count in await session.execute(statement)}  # noqa: C416 - rows are not pairs to mypy

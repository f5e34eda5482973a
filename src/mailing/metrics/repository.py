"""Read the state of the service for `/metrics`. No query grows with messages that have ended."""

import msgspec
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.rows import all_as, one_as
from mailing.gateway import repository
from mailing.gateway.repository import GatewayState
from mailing.job_queue import inspection
from mailing.job_queue.inspection import JobCount, job_counts
from mailing.mailings.counts import totals
from mailing.messages.low_watermark import PENDING
from mailing.messages.states import MessageStatus
from mailing.observability import counters
from mailing.restore.repository import Witnesses, witnesses

MAX_COUNTED = 10_000  # pending messages, each of which is read


class Connections(msgspec.Struct, frozen=True):
    """Database connections of one component, such as api; `state` is busy, idle or hidden."""

    component: str
    state: str
    count: int


class Server(msgspec.Struct, frozen=True):
    """Connections of the database server, of all programs, and its limit."""

    used: int
    limit: int


class Audits(msgspec.Struct, frozen=True):
    drift: int
    newest_age_s: float | None


class Reports(msgspec.Struct, frozen=True):
    """Daily reports. `newest_age_s` is None if none was ever sent."""

    overdue: int
    newest_age_s: float | None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The state at one moment. `due` and `waiting` are counted up to MAX_COUNTED."""

    messages: dict[str, int]
    mailings: dict[str, int]
    due_age_s: float
    due: int
    waiting: dict[str, int]
    gateway: GatewayState
    witnesses: list[Witnesses]
    jobs: list[JobCount]
    workers: int
    connections: list[Connections]
    server: Server
    audits: Audits
    reports: Reports
    delivery: dict[str, int]
    counters: counters.Counts


async def read(session: AsyncSession) -> Snapshot:
    return Snapshot(
        messages=await _messages(session),
        mailings=await _by_name(session, _MAILINGS),
        due_age_s=(await session.execute(_DUE_AGE)).scalar_one(),
        due=(await session.execute(_DUE)).scalar_one(),
        waiting=await _by_name(session, _WAITING),
        gateway=await repository.read(session),
        witnesses=await witnesses(session),
        jobs=await job_counts(session),
        workers=await inspection.live_workers(session),
        connections=all_as(Connections, await session.execute(_CONNECTIONS)),
        server=one_as(Server, await session.execute(_SERVER)),
        audits=one_as(Audits, await session.execute(_AUDITS)),
        reports=one_as(Reports, await session.execute(_REPORTS)),
        delivery=dict((await session.execute(_DELIVERY)).mappings().one()),
        counters=await counters.totals(session),
    )


_MAILINGS = text("""
    SELECT status, count(*) FROM mailing WHERE deleted_at IS NULL AND test_of_mailing_id IS NULL GROUP BY status
""")

# One probe of message_due for each running mailing. Messages held back by a pause or an edit are due since its end.
_DUE_AGE = text(f"""
    SELECT coalesce(max(extract(epoch FROM now() - greatest(m.due_at, g.updated_at))), 0)::float
    FROM mailing g CROSS JOIN LATERAL (
        SELECT due_at FROM message
        WHERE mailing_id = g.id AND {PENDING} AND due_at <= now() AND closes_at > now()
        ORDER BY due_at LIMIT 1
    ) m
    WHERE g.status = 'running' AND now() < g.ends_at
""")  # noqa: S608 - composed from a constant

# Index-only scan of message_due. 10,000: 50 ms on a busy machine.
_DUE = text(f"""
    SELECT count(*) FROM (
        SELECT FROM mailing g CROSS JOIN LATERAL (
            SELECT FROM message
            WHERE mailing_id = g.id AND {PENDING} AND due_at <= now() AND closes_at > now()
            ORDER BY due_at LIMIT {MAX_COUNTED}
        ) m
        WHERE g.status = 'running' AND now() < g.ends_at LIMIT {MAX_COUNTED}
    ) counted
""")  # noqa: S608 - composed from constants of this module

# Index: message_due, then each message's row. 10,000: 55 ms on a busy machine.
_WAITING = text(f"""
    SELECT coalesce(wait_reason, 'window'), count(*) FROM (
        SELECT m.wait_reason FROM mailing g CROSS JOIN LATERAL (
            SELECT wait_reason FROM message
            WHERE mailing_id = g.id AND {PENDING} AND due_at > now()
            ORDER BY due_at LIMIT {MAX_COUNTED}
        ) m
        WHERE g.status IN ('running', 'paused') LIMIT {MAX_COUNTED}
    ) counted GROUP BY 1
""")  # noqa: S608 - composed from constants of this module

# Components as `create_engine` and the job queue name themselves. The server hides the state of another role's
# connections.
_CONNECTIONS = text("""
    SELECT substr(application_name, 9) AS component,
        CASE WHEN state IS NULL THEN 'hidden' WHEN state = 'idle' THEN 'idle' ELSE 'busy' END AS state,
        count(*)
    FROM pg_stat_activity
    WHERE datname = current_database()
      AND application_name IN ('mailing-api', 'mailing-worker', 'mailing-queue', 'mailing-cli')
    GROUP BY 1, 2
""")

_SERVER = text("""
    SELECT sum(numbackends)::int AS used, current_setting('max_connections')::int AS "limit" FROM pg_stat_database
""")

# One row a mailing.
_AUDITS = text("""
    SELECT coalesce(sum(drift), 0)::bigint AS drift, extract(epoch FROM now() - max(at))::float AS newest_age_s
    FROM counter_audit
""")

# Index: the primary key; the rows of a month.
_REPORTS = text("""
    SELECT count(*) FILTER (WHERE sent_at IS NULL AND (attempts > 0 OR due_at <= now())) AS overdue,
        extract(epoch FROM now() - max(sent_at))::float AS newest_age_s
    FROM report WHERE day > current_date - 32
""")


# One row a mailing; test sends are left out.
_DELIVERY = text("""
    SELECT coalesce(sum(r.delivered), 0)::bigint AS delivered, coalesce(sum(r.undelivered), 0)::bigint AS undelivered,
        coalesce(sum(greatest(c.sent - coalesce(r.delivered + r.undelivered, 0), 0)), 0)::bigint AS awaited
    FROM mailing_counts c JOIN mailing g ON g.id = c.mailing_id LEFT JOIN receipt_counts r ON r.mailing_id = g.id
    WHERE g.test_of_mailing_id IS NULL
""")


async def _messages(session: AsyncSession) -> dict[str, int]:
    counts = (await totals(session)).messages
    return {status: getattr(counts, status) for status in MessageStatus}


async def _by_name(session: AsyncSession, statement: TextClause) -> dict[str, int]:
    return {name: count for name, count in await session.execute(statement)}  # noqa: C416 - rows are not pairs to mypy

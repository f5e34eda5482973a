"""Statements for `/metrics`. None grows with messages that have ended."""

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.messages.low_watermark import PENDING

MAX_COUNTED = 10_000  # pending messages, each of which is read

MAILINGS = text("""
    SELECT status, count(*) FROM mailing WHERE deleted_at IS NULL AND test_of_mailing_id IS NULL GROUP BY status
""")

# One probe of message_due for each running mailing. Messages held back by a pause or an edit are due since its end.
DUE_AGE_S = text(f"""
    SELECT coalesce(max(extract(epoch FROM now() - greatest(m.due_at, g.updated_at))), 0)::float
    FROM mailing g CROSS JOIN LATERAL (
        SELECT due_at FROM message
        WHERE mailing_id = g.id AND {PENDING} AND due_at <= now() AND closes_at > now()
        ORDER BY due_at LIMIT 1
    ) m
    WHERE g.status = 'running' AND now() < g.ends_at
""")  # noqa: S608 - composed from a constant

# Index-only scan of message_due. 10,000: 50 ms on a busy machine.
DUE = text(f"""
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
WAITING = text(f"""
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
CONNECTIONS = text("""
    SELECT substr(application_name, 9) AS component,
        CASE WHEN state IS NULL THEN 'hidden' WHEN state = 'idle' THEN 'idle' ELSE 'busy' END AS state,
        count(*)
    FROM pg_stat_activity
    WHERE datname = current_database()
      AND application_name IN ('mailing-api', 'mailing-worker', 'mailing-queue', 'mailing-cli')
    GROUP BY 1, 2
""")

# Of all programs.
SERVER = text("""
    SELECT sum(numbackends)::int AS used, current_setting('max_connections')::int AS "limit" FROM pg_stat_database
""")

# One row a mailing.
AUDITS = text("""
    SELECT coalesce(sum(drift), 0)::bigint AS drift, extract(epoch FROM now() - max(at))::float AS newest_age_s
    FROM counter_audit
""")

# Index: the primary key; the rows of a month.
REPORTS = text("""
    SELECT count(*) FILTER (WHERE sent_at IS NULL AND (attempts > 0 OR due_at <= now())) AS overdue,
        extract(epoch FROM now() - max(sent_at))::float AS newest_age_s
    FROM report WHERE day > current_date - 32
""")

# One row a mailing; test sends are left out.
DELIVERY = text("""
    SELECT coalesce(sum(r.delivered), 0)::bigint AS delivered, coalesce(sum(r.undelivered), 0)::bigint AS undelivered,
        coalesce(sum(greatest(c.sent - coalesce(r.delivered + r.undelivered, 0), 0)), 0)::bigint AS awaited
    FROM mailing_counts c JOIN mailing g ON g.id = c.mailing_id LEFT JOIN receipt_counts r ON r.mailing_id = g.id
    WHERE g.test_of_mailing_id IS NULL
""")


async def by_label(session: AsyncSession, statement: TextClause) -> dict[str, int]:
    return {label: count for label, count in await session.execute(statement)}  # noqa: C416 - rows are not pairs to mypy

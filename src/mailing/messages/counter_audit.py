"""Compare counters with the messages they count: each mailing when it has ended, open ones every hour."""

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.engine import LONG_STATEMENT_S, Sessions, raw_connection, transaction
from mailing.observability.log import get

logger = get(__name__)

MOST = 20
MANY = 100_000


class Audit(msgspec.Struct, frozen=True):
    mailing_id: int
    planned: int
    drift: int


async def audit_counts(sessions: Sessions) -> None:
    """Audit a few small mailings or a big one. Call it every minute. It corrects nothing: a drift needs a diagnosis."""
    for _ in range(MOST):
        async with transaction(sessions) as session:
            audit = await audit_next(session)
        if audit and audit.drift:
            logger.error("counters differ from messages", mailing_id=audit.mailing_id, drift=audit.drift)
        if audit is None or audit.planned > MANY:
            return


# One statement sees one snapshot, in which counters and messages agree. Index: message_listed, of the one mailing;
# 1,000,000 messages: 0.5 s, before VACUUM has been there 1.6-5 s, on a busy machine.
_AUDIT = """
    WITH next AS (
        SELECT g.id FROM mailing g LEFT JOIN counter_audit a ON a.mailing_id = g.id
        WHERE a.at IS NULL OR a.at < g.finished_at
           OR a.at < now() - interval '1 hour' AND g.status IN ('scheduled', 'running', 'paused')
        ORDER BY a.at NULLS FIRST, g.id LIMIT 1
    ), counted AS (
        SELECT m.status, count(*) AS messages FROM message m WHERE m.mailing_id = (SELECT id FROM next) GROUP BY 1
    )
    INSERT INTO counter_audit (mailing_id, at, drift)
    SELECT c.mailing_id, now(), (
        SELECT coalesce(sum(abs(kept.messages - coalesce(counted.messages, 0))), 0)
        FROM (VALUES ('pending', c.pending), ('sending', c.sending), ('sent', c.sent), ('failed', c.failed),
                     ('cancelled', c.cancelled), ('expired', c.expired), ('unknown', c.unknown)) kept (status, messages)
        LEFT JOIN counted USING (status))
    FROM mailing_counts c WHERE c.mailing_id = (SELECT id FROM next)
    ON CONFLICT (mailing_id) DO UPDATE SET at = excluded.at, drift = excluded.drift
    RETURNING mailing_id, (SELECT c.planned FROM mailing_counts c WHERE c.mailing_id = counter_audit.mailing_id), drift
"""


_ALONE = text("SELECT pg_try_advisory_xact_lock(7233152)")


async def audit_next(session: AsyncSession) -> Audit | None:
    """Audit the next mailing. None: nothing is due, or another worker audits; two would only share the disk."""
    if not (await session.execute(_ALONE)).scalar_one():
        return None
    row = await (await raw_connection(session)).fetchrow(_AUDIT, timeout=LONG_STATEMENT_S)
    return Audit(*row) if row else None

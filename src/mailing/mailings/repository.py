"""Statements on mailings for workers: guarded status transitions, and the search for pending work."""

from collections.abc import Sequence
from datetime import datetime, time

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.rows import all_as, first_as, rows_affected
from mailing.events import WORKER, record_event
from mailing.gateway.repository import MAY_CALL
from mailing.gateway.row import ONLY_ROW
from mailing.mailings.models import Mailing
from mailing.restore.repository import RESTORED


async def find_mailing(session: AsyncSession, mailing_id: int) -> Mailing | None:
    """Read a mailing as a worker does: test sends and deleted ones too."""
    return await session.get(Mailing, mailing_id)


PLAN_TIMEOUT_S = 15

# scheduled → running when the start has come. Only one worker plans a revision, until its heartbeat times out. The
# audience ends with the newest client of this moment. In a restored database nothing is planned: a message would get an
# id that may have been used after the backup.
_CLAIM_PLAN = text(f"""
    UPDATE mailing SET
        status = CASE status WHEN 'scheduled' THEN 'running' ELSE status END,
        started_at = coalesce(started_at, now()),
        audience_max_client_id = coalesce(audience_max_client_id, (SELECT max(id) FROM client), 0),
        planning_revision = plan_revision, plan_heartbeat_at = now(), timezone_rules = :rules
    WHERE id = :id AND planned_revision < plan_revision AND starts_at <= now()
      AND status IN ('scheduled', 'running', 'paused')
      AND (planning_revision < plan_revision OR plan_heartbeat_at < now() - interval '{PLAN_TIMEOUT_S} s')
      AND NOT {RESTORED}
    RETURNING started_at = now()
""")  # noqa: S608 - composed from constants of this module


async def claim_plan(session: AsyncSession, mailing_id: int, *, rules: str) -> bool:
    """Return False if there is nothing to plan, it is not due, another worker plans, or the database was restored."""
    begun = (await session.execute(_CLAIM_PLAN, {"id": mailing_id, "rules": rules})).first()
    if begun and begun[0]:
        await record_event(session, "mailing.started", by=WORKER, mailing_id=mailing_id)
    return begun is not None


_CURRENT = f"id = :id AND plan_revision = :revision AND NOT {RESTORED}"
_HEARTBEAT_PLAN = text(f"UPDATE mailing SET plan_heartbeat_at = now() WHERE {_CURRENT}")  # noqa: S608 - its own constant


async def heartbeat_plan(session: AsyncSession, mailing_id: int, revision: int) -> bool:
    """Renew the heartbeat. False: an edit made this plan obsolete, or the database was restored.

    Edits and other slices of the plan wait until the commit.
    """
    return await rows_affected(session, _HEARTBEAT_PLAN, id=mailing_id, revision=revision) > 0


_LOCK_PLAN = text(f"SELECT id FROM mailing WHERE {_CURRENT} FOR SHARE")  # noqa: S608 - its own constant


async def lock_plan(session: AsyncSession, mailing_id: int, revision: int) -> bool:
    """Lock the plan against edits, as `heartbeat_plan`, but let slices run concurrently and write no heartbeat."""
    held = await session.execute(_LOCK_PLAN, {"id": mailing_id, "revision": revision})
    return held.first() is not None


# The plan of `revision` is complete, unless an edit has made a newer revision.
_COMPLETE_PLAN = text("UPDATE mailing SET planned_revision = :revision WHERE id = :id AND plan_revision = :revision")


async def complete_plan(session: AsyncSession, mailing_id: int, revision: int) -> bool:
    ended = await rows_affected(session, _COMPLETE_PLAN, id=mailing_id, revision=revision) > 0
    if ended:
        planned = await count_planned(session, mailing_id)
        await record_event(
            session, "mailing.planned", by=WORKER, mailing_id=mailing_id, revision=revision, messages=planned
        )
    return ended


# Mailings whose send windows were computed by other rules, or by older ones. Index: mailing_open.
_BY_OTHER_RULES = text("""
    SELECT id FROM mailing
    WHERE status IN ('running', 'paused') AND window_start IS NOT NULL AND planned_revision = plan_revision
      AND (timezone_rules < :rules OR NOT :only_older AND timezone_rules IS DISTINCT FROM :rules)
    ORDER BY id
""")


async def planned_by_other_rules(session: AsyncSession, rules: str, *, only_older: bool) -> Sequence[int]:
    return (await session.execute(_BY_OTHER_RULES, {"rules": rules, "only_older": only_older})).scalars().all()


_SET_TIMEZONE_RULES = text("UPDATE mailing SET timezone_rules = :rules WHERE id = :id AND plan_revision = :revision")


async def set_timezone_rules(session: AsyncSession, mailing: Mailing, rules: str) -> None:
    await session.execute(_SET_TIMEZONE_RULES, {"id": mailing.id, "revision": mailing.plan_revision, "rules": rules})


_PLANNED = text("SELECT planned FROM mailing_counts WHERE mailing_id = :id")


async def count_planned(session: AsyncSession, mailing_id: int) -> int:
    return int((await session.execute(_PLANNED, {"id": mailing_id})).scalar_one())


# A statement of its own reads the counters, after the lock: a caller may just have resent messages. A worker that
# finds the row locked leaves the finish to the sweep.
_LOCK = text("SELECT FROM mailing WHERE id = :id FOR UPDATE SKIP LOCKED")

# running | paused → finished when every planned message is final.
_FINISH = text("""
    UPDATE mailing g SET status = 'finished', finished_at = now()
    FROM mailing_counts c
    WHERE g.id = :id AND c.mailing_id = g.id AND g.status IN ('running', 'paused')
      AND g.planned_revision = g.plan_revision AND c.pending = 0 AND c.sending = 0
    RETURNING c.sent, c.failed, c.cancelled, c.expired, c.unknown
""")


async def finish(session: AsyncSession, mailing_id: int) -> bool:
    if not await rows_affected(session, _LOCK, id=mailing_id):
        return False
    counts = (await session.execute(_FINISH, {"id": mailing_id})).mappings().first()
    if counts is not None:
        await record_event(session, "mailing.finished", by=WORKER, mailing_id=mailing_id, **counts)
    return counts is not None


class PendingWork(msgspec.Struct, frozen=True):
    """The work that the sweep finds pending for one mailing.

    `reschedule`: pending messages whose send window has passed, or that will not be sent before the end.
    """

    mailing_id: int
    plan: bool
    send: bool
    reschedule: bool


# The inner SELECT is one probe of message_due, from the low watermark on: its ORDER BY binds it to that index. For an
# EXISTS the planner read it whole for all mailings. Index: mailing_open.
_FIND_PENDING_WORK = text(f"""
    SELECT g.id AS mailing_id,
        g.status = 'scheduled' AND g.starts_at <= now()
            OR g.status IN ('running', 'paused') AND g.planned_revision < g.plan_revision
            AND (g.planning_revision < g.plan_revision
                 OR g.plan_heartbeat_at < now() - interval '{PLAN_TIMEOUT_S} s') AS plan,
        {MAY_CALL} AND (w.breaker_opened_at IS NULL OR w.breaker_next_probe_at <= now())
            AND g.status = 'running' AND now() < g.ends_at AND (
            SELECT true FROM message m WHERE m.mailing_id = g.id AND m.phase = 'open' AND m.status = 'pending'
            AND (m.due_at, m.id) >= (f.due_at, f.id) AND m.due_at <= now() AND m.closes_at > now()
            ORDER BY m.due_at, m.id LIMIT 1) IS NOT NULL AS send,
        now() >= g.ends_at AND g.status <> 'scheduled' OR f.closes_at <= now()
            OR c.pending + c.sending = 0 AND g.planned_revision = g.plan_revision AS reschedule
    FROM mailing g JOIN mailing_counts c ON c.mailing_id = g.id JOIN message_low_watermark f ON f.mailing_id = g.id
    JOIN gateway w ON w.{ONLY_ROW}
    WHERE g.status IN ('scheduled', 'running', 'paused') AND g.id > :after
    ORDER BY g.id LIMIT :count
""")  # noqa: S608 - composed from constants of this module


async def find_pending_work(session: AsyncSession, *, after: int, count: int) -> list[PendingWork]:
    """Check the next `count` open mailings by id; mailings without pending work are included."""
    return all_as(PendingWork, await session.execute(_FIND_PENDING_WORK, {"after": after, "count": count}))


# Rare: a call ended while the mailing was being cancelled.
_CLOSED_WITH_PENDING = text("""
    SELECT g.id FROM mailing g JOIN mailing_counts c ON c.mailing_id = g.id
    WHERE g.status IN ('finished', 'cancelled') AND c.pending > 0 ORDER BY g.id LIMIT :count
""")


async def closed_with_pending(session: AsyncSession, *, count: int) -> Sequence[int]:
    return (await session.execute(_CLOSED_WITH_PENDING, {"count": count})).scalars().all()


class ReleasedContent(msgspec.Struct, frozen=True):
    text: str
    starts_at: datetime
    ends_at: datetime
    tags: list[str]
    operator_codes: list[str]
    window_start: time | None
    window_end: time | None


# By the primary keys.
_LAST_RELEASE = text("""
    SELECT t.text, r.starts_at, r.ends_at, r.tags, r.operator_codes, r.window_start, r.window_end
    FROM mailing g JOIN mailing_release r ON r.mailing_id = g.id AND r.revision = g.released_revision
    JOIN mailing_text t ON t.mailing_id = g.id AND t.revision = r.text_revision
    WHERE g.id = :id
""")


async def last_release(session: AsyncSession, mailing_id: int) -> ReleasedContent | None:
    return first_as(ReleasedContent, await session.execute(_LAST_RELEASE, {"id": mailing_id}))


_TEXTS = text("SELECT revision, text FROM mailing_text WHERE mailing_id = :id")


async def texts(session: AsyncSession, mailing_id: int) -> dict[int, str]:
    """Return every text that the mailing has had, by revision."""
    return {row.revision: row.text for row in await session.execute(_TEXTS, {"id": mailing_id})}

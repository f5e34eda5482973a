"""The statements of the reports: the figures of a day, and what becomes of a try to send it."""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.engine import Sessions
from mailing.reports.figures import DayCounts, Figures, Hour, MailingFigures, Reason, StatusCounts
from mailing.reports.planning import period_of
from mailing.reports.schedule import Day


@asynccontextmanager
async def snapshot(sessions: Sessions) -> AsyncIterator[AsyncSession]:
    """Every statement sees the same moment; nothing can be written."""
    async with sessions() as session:
        await session.connection(execution_options={"isolation_level": "REPEATABLE READ", "postgresql_readonly": True})
        yield session


async def clock(session: AsyncSession) -> datetime:
    now: datetime = (await session.execute(text("SELECT clock_timestamp()"))).scalar_one()
    return now


# What ended within a day, by mailing; tests count nowhere. Index: message_finished; it reads the day's part of the
# table alone, 75 ms for 100,000 of 1,000,000 messages. Retention moves rows, and the ranges of old days overlap: of
# 2,000,000 in 20 days, half of them blanked, yesterday's 100,000 take 213,000 and 0.2 s, those of a blanked day 407,000
# and 1.1 s. A B-tree would cost every message that is sent. Every mailing is looked at, 1 ms for 1,000.
_MAILINGS = text("""
    WITH ended AS (
        SELECT mailing_id,
               count(*) FILTER (WHERE status = 'sent') AS sent,
               count(*) FILTER (WHERE status = 'failed') AS failed,
               count(*) FILTER (WHERE status = 'expired') AS expired,
               count(*) FILTER (WHERE status = 'unknown') AS unknown,
               count(*) FILTER (WHERE status = 'cancelled') AS cancelled
        FROM message WHERE finished_at >= :starts AND finished_at < :ends
        GROUP BY mailing_id)
    SELECT m.id, left(m.text, 200), CASE WHEN m.deleted_at IS NULL THEN m.status ELSE 'deleted' END,
           coalesce(e.sent, 0), coalesce(e.failed, 0), coalesce(e.expired, 0), coalesce(e.unknown, 0),
           coalesce(e.cancelled, 0),
           c.planned, c.pending, c.sending, c.sent, c.failed, c.expired, c.unknown, c.cancelled
    FROM mailing m JOIN mailing_counts c ON c.mailing_id = m.id LEFT JOIN ended e ON e.mailing_id = m.id
    WHERE m.test_of_mailing_id IS NULL AND (e.mailing_id IS NOT NULL OR m.status IN ('running', 'paused')
       OR m.started_at >= :starts AND m.started_at < :ends)
    ORDER BY m.id
""")

# One row a mailing.
_STANDING = text("""
    SELECT coalesce(sum(planned), 0)::bigint, coalesce(sum(pending), 0)::bigint, coalesce(sum(sending), 0)::bigint,
           coalesce(sum(sent), 0)::bigint, coalesce(sum(failed), 0)::bigint, coalesce(sum(expired), 0)::bigint,
           coalesce(sum(unknown), 0)::bigint, coalesce(sum(cancelled), 0)::bigint
    FROM mailing_counts JOIN mailing m ON m.id = mailing_id WHERE m.test_of_mailing_id IS NULL
""")

# Why messages of a day did not go out. Index: message_finished; 70 ms for 100,000 of 1,000,000 messages.
_REASONS = text("""
    SELECT e.status, coalesce(e.status_reason, ''), count(*)
    FROM message e JOIN mailing m ON m.id = e.mailing_id
    WHERE e.finished_at >= :starts AND e.finished_at < :ends AND e.status IN ('failed', 'expired', 'unknown')
      AND m.test_of_mailing_id IS NULL
    GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 10
""")

# When messages of a day ended, by hours since its start; cancellations are somebody's wish. Index: message_finished.
_HOURS = text("""
    SELECT floor(extract(epoch FROM e.finished_at - :starts) / 3600)::int,
           count(*) FILTER (WHERE e.status = 'sent'), count(*) FILTER (WHERE e.status <> 'sent')
    FROM message e JOIN mailing m ON m.id = e.mailing_id
    WHERE e.finished_at >= :starts AND e.finished_at < :ends AND e.status IN ('sent', 'failed', 'expired', 'unknown')
      AND m.test_of_mailing_id IS NULL
    GROUP BY 1 ORDER BY 1
""")


async def figures_of(session: AsyncSession, day: Day, *, taken_at: datetime) -> Figures:
    """Needs a snapshot: its statements must agree with each other."""
    within = {"starts": day.starts, "ends": day.ends}
    mailings = await session.execute(_MAILINGS, within)
    standing = await session.execute(_STANDING)
    reasons = await session.execute(_REASONS, within)
    hours = await session.execute(_HOURS, within)
    return Figures(
        day=day,
        taken_at=taken_at,
        mailings=[_mailing(row) for row in mailings],
        totals=StatusCounts(*standing.one()),
        reasons=[Reason(*row) for row in reasons],
        hours=[Hour(*row) for row in hours],
    )


def _mailing(row: Sequence[Any]) -> MailingFigures:
    mailing_id, beginning, status, *counts = row
    return MailingFigures(mailing_id, beginning, status, DayCounts(*counts[:5]), StatusCounts(*counts[5:]))


class Claim(Struct, frozen=True):
    """The right to send the report of `period`, until the lease ends. `delivered_to` have it from an earlier try."""

    period: Day
    key: uuid.UUID
    attempts: int
    delivered_to: list[str]

    @property
    def day(self) -> date:
        return self.period.date


class Lease(Struct, frozen=True):
    """A try counts as failed until something else is recorded: `pauses` come after the 1st, 2nd … and any later one."""

    now: datetime
    until: datetime
    pauses: Sequence[timedelta]


# What becomes of a row with a claim. A process may die of its day: the next try waits as after any other failure.
_CLAIMED = """
    lease_until = :until, attempts = report.attempts + 1,
    due_at = greatest(:until, CAST(:now AS timestamptz)
                            + (CAST(:pauses AS interval[]))[least(report.attempts + 1, :pauses_known)]),
    last_error = CASE WHEN report.lease_until IS NULL THEN report.last_error
                      ELSE 'the process that tried it was lost' END
"""
_OF_CLAIM = "report.day, report.zone, report.starts, report.ends, report.key, report.attempts, report.delivered_to"

# missing → under way, the oldest of those that are due: none waits for another. A row that somebody has locked, be it a
# second worker, is passed over. Index: the primary key, at most 33 rows.
_CLAIM_OLDEST = text(f"""
    UPDATE report SET {_CLAIMED}
    WHERE day = (
            SELECT day FROM report
            WHERE day >= :oldest AND coalesce(ends, :now) <= :now AND sent_at IS NULL AND due_at <= :now
              AND (lease_until IS NULL OR lease_until <= :now)
            ORDER BY day LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING {_OF_CLAIM}
""")  # noqa: S608 - composed from constants of this module


async def claim_oldest(session: AsyncSession, *, oldest: date, zone: ZoneInfo, lease: Lease) -> Claim | None:
    """`zone` is for rows of earlier versions."""
    row = (await session.execute(_CLAIM_OLDEST, {"oldest": oldest, **_columns(lease)})).one_or_none()
    return _claim(row, zone) if row else None


# missing or never planned → under way, however long the next try is away. Index: the primary key.
_CLAIM_DAY = text(f"""
    INSERT INTO report (day, zone, starts, ends, due_at, lease_until, attempts)
    VALUES (:day, :zone, :starts, :ends, :until, :until, 1)
    ON CONFLICT (day) DO UPDATE SET {_CLAIMED}
    WHERE report.sent_at IS NULL AND (report.lease_until IS NULL OR report.lease_until <= :now)
    RETURNING {_OF_CLAIM}
""")  # noqa: S608 - composed from constants of this module


async def claim_day(session: AsyncSession, period: Day, *, zone: ZoneInfo, lease: Lease) -> Claim | None:
    """`period` is that of the row, where there is one."""
    columns = {"day": period.date, "zone": period.zone, "starts": period.starts, "ends": period.ends}
    row = (await session.execute(_CLAIM_DAY, {**columns, **_columns(lease)})).one_or_none()
    return _claim(row, zone) if row else None


def _columns(lease: Lease) -> dict[str, Any]:
    return {
        "now": lease.now,
        "until": lease.until,
        "pauses": list(lease.pauses),
        "pauses_known": len(lease.pauses),
    }


def _claim(row: Sequence[Any], zone: ZoneInfo) -> Claim:
    return Claim(period_of(row[:4], zone), *row[4:])


async def sent_at(session: AsyncSession, day: date) -> datetime | None:
    row = await session.execute(text("SELECT sent_at FROM report WHERE day = :day"), {"day": day})
    return row.scalar_one_or_none()


# under way → sent. No fence: it was sent, whoever holds the lease by now.
_RECORD_SENT = text("""
    UPDATE report SET sent_at = coalesce(sent_at, :at), lease_until = NULL, permanently_failed = false,
        last_error = :reason,
        delivered_to = delivered_to || CAST(:delivered AS text[])
    WHERE day = :day
""")


async def record_sent(
    session: AsyncSession, claim: Claim, *, at: datetime, delivered: Sequence[str], reason: str | None
) -> None:
    given = {"day": claim.day, "at": at, "delivered": list(delivered), "reason": reason}
    await session.execute(_RECORD_SENT, given)


# under way → missing, until the next try. A try whose lease was lost changes nothing.
_RECORD_FAILURE = text("""
    UPDATE report SET due_at = :due_at, lease_until = NULL, permanently_failed = :permanently_failed,
        last_error = :reason,
        delivered_to = delivered_to || CAST(:delivered AS text[])
    WHERE day = :day AND attempts = :attempts AND sent_at IS NULL
""")


class Failure(Struct, frozen=True):
    """`delivered` are the recipients who got it all the same; `permanently_failed` says that waiting will not help."""

    reason: str
    due_at: datetime
    delivered: Sequence[str] = ()
    permanently_failed: bool = False


async def record_failure(session: AsyncSession, claim: Claim, failure: Failure) -> None:
    given = {"due_at": failure.due_at, "reason": failure.reason, "permanently_failed": failure.permanently_failed}
    row = {"day": claim.day, "attempts": claim.attempts, "delivered": list(failure.delivered)}
    await session.execute(_RECORD_FAILURE, {**given, **row})

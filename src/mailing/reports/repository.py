"""Statements of the reports: the figures of a day, and the outcome of an attempt to send it."""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime, timedelta

from msgspec import Struct, convert
from msgspec.structs import asdict
from sqlalchemy import RowMapping, TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.engine import Sessions, read_snapshot
from mailing.database.rows import all_as, one_as
from mailing.mailings.counts import COLUMNS, Counts, totals
from mailing.reasons.codes import stored_reason
from mailing.reports.figures import DayCounts, DayDelivery, Figures, Hour, MailingFigures, ReasonCount
from mailing.reports.planning import period_of
from mailing.reports.schedule import Day


@asynccontextmanager
async def snapshot(sessions: Sessions) -> AsyncIterator[AsyncSession]:
    """Open a read-only snapshot: every statement sees the same moment."""
    async with sessions() as session:
        await read_snapshot(session)
        yield session


_ENDED = ", ".join(f"count(*) FILTER (WHERE status = '{name}') AS {name}" for name in DayCounts.__struct_fields__)
_THAT_DAY = ", ".join(f"coalesce(e.{name}, 0) AS day_{name}" for name in DayCounts.__struct_fields__)

# Messages that ended within a day, by mailing, without test sends. Index: message_finished; it reads only the day's
# part of the table, 75 ms for 100,000 of 1,000,000 messages. Retention moves rows, and ranges of old days overlap: of
# 2,000,000 in 20 days, half of them redacted, yesterday's 100,000 read 213,000 rows in 0.2 s, a redacted day 407,000 in
# 1.1 s. A B-tree would cost every message that is sent. Every mailing is read, 1 ms for 1,000.
_MAILINGS = text(f"""
    WITH ended AS (
        SELECT mailing_id, {_ENDED} FROM message WHERE finished_at >= :starts AND finished_at < :ends
        GROUP BY mailing_id)
    SELECT m.id, left(m.text, 200) AS text, CASE WHEN m.deleted_at IS NULL THEN m.status ELSE 'deleted' END AS status,
           {_THAT_DAY}, {COLUMNS}
    FROM mailing m JOIN mailing_counts c ON c.mailing_id = m.id LEFT JOIN ended e ON e.mailing_id = m.id
    WHERE m.test_of_mailing_id IS NULL AND (e.mailing_id IS NOT NULL OR m.status IN ('running', 'paused')
       OR m.started_at >= :starts AND m.started_at < :ends)
    ORDER BY m.id
""")  # noqa: S608 - composed from constants

# Why messages of a day did not go out. Index: message_finished; 70 ms for 100,000 of 1,000,000 messages.
_REASONS = text("""
    SELECT e.status, e.reason_code, e.reason_params, count(*) AS messages
    FROM message e JOIN mailing m ON m.id = e.mailing_id
    WHERE e.finished_at >= :starts AND e.finished_at < :ends AND e.status IN ('failed', 'expired', 'unknown')
      AND m.test_of_mailing_id IS NULL
    GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3 LIMIT 10
""")

# When messages of a day ended, by hours since its start; cancellations are a user's decision. Index: message_finished.
_HOURS = text("""
    SELECT floor(extract(epoch FROM e.finished_at - :starts) / 3600)::int AS number,
           count(*) FILTER (WHERE e.status = 'sent') AS sent, count(*) FILTER (WHERE e.status <> 'sent') AS not_sent
    FROM message e JOIN mailing m ON m.id = e.mailing_id
    WHERE e.finished_at >= :starts AND e.finished_at < :ends AND e.status IN ('sent', 'failed', 'expired', 'unknown')
      AND m.test_of_mailing_id IS NULL
    GROUP BY 1 ORDER BY 1
""")


# What became of the messages sent within a day. Indexes: message_finished, then receipt_pkey; 0.3 s for 100,000 of
# 1,000,000 messages.
_DELIVERY = text("""
    SELECT count(*) AS sent, count(*) FILTER (WHERE r.state = 3) AS delivered,
        count(*) FILTER (WHERE r.state = 2) AS undelivered
    FROM message e JOIN mailing m ON m.id = e.mailing_id LEFT JOIN receipt r ON r.message_id = e.id
    WHERE e.finished_at >= :starts AND e.finished_at < :ends AND e.status = 'sent' AND m.test_of_mailing_id IS NULL
""")


async def figures_of(session: AsyncSession, day: Day, *, taken_at: datetime, receipts: bool = False) -> Figures:
    """Read the figures; with `receipts` also the delivery. Needs a `snapshot`: the statements must agree."""
    within = {"starts": day.starts, "ends": day.ends}
    mailings = await session.execute(_MAILINGS, within)
    reasons = await session.execute(_REASONS, within)
    hours = await session.execute(_HOURS, within)
    return Figures(
        day=day,
        taken_at=taken_at,
        mailings=[_mailing(row) for row in mailings.mappings()],
        totals=(await totals(session)).messages,
        reasons=[
            ReasonCount(row.status, stored_reason(row.reason_code, row.reason_params), row.messages) for row in reasons
        ],
        hours=all_as(Hour, hours),
        delivery=one_as(DayDelivery, await session.execute(_DELIVERY, within)) if receipts else None,
    )


def _mailing(row: RowMapping) -> MailingFigures:
    return MailingFigures(
        id=row["id"],
        text=row["text"],
        status=row["status"],
        ended=DayCounts(**{name: row[f"day_{name}"] for name in DayCounts.__struct_fields__}),
        totals=convert(row, Counts),
    )


class Claim(Struct, frozen=True):
    """The right to send the report of `period` until the lease ends. `delivered_to` have it from an earlier attempt."""

    period: Day
    key: uuid.UUID
    attempts: int
    delivered_to: list[str]

    @property
    def day(self) -> date:
        return self.period.date


LEASE = timedelta(minutes=6)

# After the first, second … failure: 1, 2, 4 … 32 minutes, then an hour.
_PAUSE = "least(interval '1 min' * 2 ^ least({failures} - 1, 6), interval '1 h')"

PROCESS_LOST = "the process that tried it was lost"

# A claim. An attempt counts as failed until its outcome is recorded: a process may die while it renders the report.
_CLAIMED = f"""
    lease_until = :until, attempts = report.attempts + 1,
    due_at = greatest(:until, CAST(:now AS timestamptz) + {_PAUSE.format(failures="(report.attempts + 1)")}),
    last_error = CASE WHEN report.lease_until IS NULL THEN report.last_error
                      ELSE CAST(:process_lost AS text) END
"""
_OF_CLAIM = "report.day, report.zone, report.starts, report.ends, report.key, report.attempts, report.delivered_to"

# missing → claimed, the oldest one that is due: no report waits for another. A locked row is skipped. Index:
# the primary key, at most 33 rows.
_CLAIM_OLDEST = text(f"""
    UPDATE report SET {_CLAIMED}
    WHERE day = (
            SELECT day FROM report
            WHERE day >= :oldest AND ends <= :now AND sent_at IS NULL AND due_at <= :now
              AND (lease_until IS NULL OR lease_until <= :now)
            ORDER BY day LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING {_OF_CLAIM}
""")  # noqa: S608 - composed from constants of this module


async def claim_oldest(session: AsyncSession, *, oldest: date, now: datetime) -> Claim | None:
    return await _claim(session, _CLAIM_OLDEST, now, oldest=oldest)


# missing or not planned → claimed, no matter when the next attempt is due. Index: the primary key.
_CLAIM_DAY = text(f"""
    INSERT INTO report (day, zone, starts, ends, due_at, lease_until, attempts)
    VALUES (:date, :zone, :starts, :ends, :until, :until, 1)
    ON CONFLICT (day) DO UPDATE SET {_CLAIMED}
    WHERE report.sent_at IS NULL AND (report.lease_until IS NULL OR report.lease_until <= :now)
    RETURNING {_OF_CLAIM}
""")  # noqa: S608 - composed from constants of this module


async def claim_day(session: AsyncSession, period: Day, *, now: datetime) -> Claim | None:
    """Claim a day's report; a row that exists keeps its period."""
    return await _claim(session, _CLAIM_DAY, now, **asdict(period))


async def _claim(session: AsyncSession, statement: TextClause, now: datetime, **values: object) -> Claim | None:
    found = await session.execute(statement, values | {"now": now, "until": now + LEASE, "process_lost": PROCESS_LOST})
    row = found.mappings().one_or_none()
    return Claim(period_of(row), row["key"], row["attempts"], row["delivered_to"]) if row else None


async def sent_at(session: AsyncSession, day: date) -> datetime | None:
    row = await session.execute(text("SELECT sent_at FROM report WHERE day = :day"), {"day": day})
    return row.scalar_one_or_none()


# A COMMIT whose answer was lost is repeated.
_WITH_DELIVERED = "delivered_to || ARRAY(SELECT unnest(CAST(:delivered AS text[])) EXCEPT SELECT unnest(delivered_to))"

# claimed → sent. Not fenced: it was sent, even if another worker has the lease by now.
_RECORD_SENT = text(f"""
    UPDATE report SET sent_at = coalesce(sent_at, :at), lease_until = NULL, permanently_failed = false,
        last_error = :reason,
        delivered_to = {_WITH_DELIVERED}
    WHERE day = :day
""")  # noqa: S608 - composed from a constant


async def record_sent(
    session: AsyncSession, claim: Claim, *, at: datetime, delivered: Sequence[str], reason: str | None
) -> None:
    values = {"day": claim.day, "at": at, "delivered": list(delivered), "reason": reason}
    await session.execute(_RECORD_SENT, values)


# claimed → missing, until the next attempt. An attempt that has lost its lease changes nothing.
_RECORD_FAILURE = text(f"""
    UPDATE report SET due_at = CAST(:at AS timestamptz) + {_PAUSE.format(failures="attempts")}, lease_until = NULL,
        permanently_failed = :is_permanent,
        last_error = :reason,
        delivered_to = {_WITH_DELIVERED}
    WHERE day = :day AND attempts = :attempts AND sent_at IS NULL
""")  # noqa: S608 - composed from a constant


async def record_failure(
    session: AsyncSession,
    claim: Claim,
    *,
    at: datetime,
    reason: str,
    delivered: Sequence[str] = (),
    is_permanent: bool = False,
) -> None:
    """Record a failed attempt. `delivered` are recipients that got it anyway; `is_permanent`: a retry will not help."""
    values = {"at": at, "reason": reason, "delivered": list(delivered), "is_permanent": is_permanent}
    await session.execute(_RECORD_FAILURE, values | {"day": claim.day, "attempts": claim.attempts})

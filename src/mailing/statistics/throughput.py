"""Messages sent by time: rows of `mailing_throughput`, one a mailing and minute, written by a trigger."""

from datetime import datetime, timedelta

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

MAX_STEPS = 60
_STEPS_S = (60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800)


class MinuteCount(Struct, frozen=True):
    """Messages sent in the step that begins `at`."""

    at: datetime
    messages: int


class Timeseries(Struct, frozen=True):
    """Messages from the first to the last, in steps of `step_s` seconds without gaps."""

    step_s: int
    steps: list[MinuteCount]


# This minute, and the part of the previous minute within the last 60 s. Two rows by primary key.
_LAST_MINUTE = text("""
    SELECT coalesce(sum(sent * CASE WHEN minute = date_trunc('minute', now()) THEN 1
                                    ELSE 1 - extract(second FROM now()) / 60 END), 0)
    FROM mailing_throughput WHERE mailing_id = :mailing_id AND minute >= date_trunc('minute', now()) - interval '1 min'
""")


async def sent_in_last_minute(session: AsyncSession, mailing_id: int) -> int:
    """Estimate the messages of the last 60 s: the previous minute counts as evenly distributed."""
    return round(await session.scalar(_LAST_MINUTE, {"mailing_id": mailing_id}) or 0)


# Two probes of the primary key.
_BOUNDS = text(
    "SELECT min(minute) AS first, max(minute) AS last FROM mailing_throughput WHERE mailing_id = :mailing_id"
)

# The primary key: 1,440 rows for a day of sending, however many messages.
_TIMESERIES = text("""
    SELECT date_bin(make_interval(secs => :step_s), minute, CAST(:first AS timestamptz)) AS at, sum(sent) AS sent
    FROM mailing_throughput WHERE mailing_id = :mailing_id GROUP BY 1
""")


async def timeseries(session: AsyncSession, mailing_id: int) -> Timeseries | None:
    """Read the time series; None before the first message."""
    bounds = (await session.execute(_BOUNDS, {"mailing_id": mailing_id})).one()
    if bounds.first is None:
        return None
    step_s = step_of(bounds.last - bounds.first)
    rows = await session.execute(_TIMESERIES, {"mailing_id": mailing_id, "first": bounds.first, "step_s": step_s})
    return Timeseries(
        step_s, _without_gaps({row.at: row.sent for row in rows}, bounds.first, bounds.last, step_s=step_s)
    )


def step_of(length: timedelta) -> int:
    """Return the shortest step that divides `length` into at most MAX_STEPS steps."""
    return next((step for step in _STEPS_S if length.total_seconds() / step < MAX_STEPS), _STEPS_S[-1])


# Index: mailing_throughput_minute; 1,440 rows for each mailing that was sending all day.
_HOURS = text("""
    SELECT date_bin('1 h', p.minute, 'epoch') AS at, sum(p.sent) AS sent
    FROM mailing_throughput p JOIN mailing g ON g.id = p.mailing_id
    WHERE p.minute >= date_bin('1 h', now(), 'epoch') - make_interval(hours => :hours - 1)
        AND g.test_of_mailing_id IS NULL
    GROUP BY 1
""")


async def last_hours(session: AsyncSession, hours: int, *, now: datetime) -> list[MinuteCount]:
    """Read the hours of all mailings, the current one included, without test sends."""
    found = {row.at: row.sent for row in await session.execute(_HOURS, {"hours": hours})}
    last = now.replace(minute=0, second=0, microsecond=0)
    return _without_gaps(found, last - timedelta(hours=hours - 1), last, step_s=3600)


def _without_gaps(found: dict[datetime, int], first: datetime, last: datetime, *, step_s: int) -> list[MinuteCount]:
    steps = int((last - first).total_seconds()) // step_s + 1
    instants = (first + timedelta(seconds=n * step_s) for n in range(steps))
    return [MinuteCount(at, int(found.get(at, 0))) for at in instants]

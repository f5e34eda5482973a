"""What a mailing's pending messages wait for: read from index to index, at the same cost for any number of messages."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.gateway.repository import GatewayState
from mailing.messages.low_watermark import FROM_LOW_WATERMARK

MAX_COUNTED = 10_000
MAX_WINDOWS = 40  # the world has 38 different offsets
MAX_SAMPLED = 200  # clients who name an opening's zones

WaitReason = Literal["release", "start", "window", "retry", "rate", "breaker", "pause"]


class BacklogItem(Struct, frozen=True):
    """`messages` wait for the same; `more` says that there are more than that. `until` is when the first may go.

    `zones` are those whose local hours begin then, as far as a sample of them shows.
    """

    reason: WaitReason
    messages: int
    until: datetime | None = None
    more: bool = False
    zones: Sequence[str] = ()


_PENDING = "mailing_id = :mailing_id AND status = 'pending'"
_CLOSED = f"{_PENDING} AND waiting = 'window' AND due_at"
# Asked for in an order that only the index has: nothing else could stop after a few of a million.
_OF_OPENING = f"{_CLOSED} BETWEEN o.at AND o.at ORDER BY due_at"

# Clients of one zone have their opening at the same instant: from each to the next it is one probe of message_by_wait.
# An opening's messages are counted up to a bound: 11 openings of 1,000,000 messages in 45-70 ms, as of 100,000.
_OPENINGS = text(f"""
    WITH RECURSIVE opening (at, number) AS (
        (SELECT due_at, 1 FROM message WHERE {_CLOSED} > now() ORDER BY due_at LIMIT 1)
        UNION ALL
        SELECT next.due_at, o.number + 1 FROM opening o CROSS JOIN LATERAL (
            SELECT due_at FROM message WHERE {_CLOSED} > o.at ORDER BY due_at LIMIT 1) next
        WHERE o.number < {MAX_WINDOWS}
    )
    SELECT o.at,
        (SELECT count(*) FROM (SELECT FROM message WHERE {_OF_OPENING} LIMIT {MAX_COUNTED} + 1) m),
        ARRAY(SELECT DISTINCT c.timezone
              FROM (SELECT client_id FROM message WHERE {_OF_OPENING} LIMIT {MAX_SAMPLED}) m
              JOIN client c ON c.id = m.client_id ORDER BY 1)
    FROM opening o ORDER BY o.at
""")  # noqa: S608 - composed from constants of this module

# Postponed one by one, in the order of message_by_wait alone. Index: that one.
_POSTPONED = text(f"""
    SELECT r.reason, count(*), min(m.due_at) FROM unnest(ARRAY['retry', 'rate', 'breaker']) AS r (reason)
    CROSS JOIN LATERAL (
        SELECT due_at FROM message WHERE {_PENDING} AND wait_reason BETWEEN r.reason AND r.reason AND due_at > now()
        ORDER BY wait_reason, due_at LIMIT {MAX_COUNTED} + 1) m
    GROUP BY r.reason ORDER BY 3
""")  # noqa: S608 - composed from constants of this module

# Those within their opening, and those whose opening has passed or is void. Index: message_due.
_DUE = text(f"""
    SELECT count(*) FILTER (WHERE closes_at > now()), count(*) FILTER (WHERE closes_at <= now())
    FROM (SELECT closes_at FROM message WHERE {_PENDING} AND {FROM_LOW_WATERMARK} AND due_at <= now()
          ORDER BY due_at, id LIMIT {MAX_COUNTED} + 1) m
""")  # noqa: S608 - composed from constants of this module


async def waiting_for_window(session: AsyncSession, mailing_id: int) -> list[BacklogItem]:
    """The next openings of local hours, soonest first."""
    found = await session.execute(_OPENINGS, {"mailing_id": mailing_id})
    return [_wait("window", messages, until, zones) for until, messages, zones in found]


async def postponed(session: AsyncSession, mailing_id: int) -> list[BacklogItem]:
    """By the reason of the last attempt; `until` is when the first of them is due."""
    return [_wait(*row) for row in await session.execute(_POSTPONED, {"mailing_id": mailing_id})]


async def due(session: AsyncSession, mailing_id: int, state: GatewayState) -> list[BacklogItem]:
    """Those that may go now: they wait for the gateway, or for their turn. And those whose opening has passed, while
    the next one is worked out.
    """
    may_go, closed = (await session.execute(_DUE, {"mailing_id": mailing_id})).one()
    reason: WaitReason = "breaker" if state.breaker_opened_at else "rate"
    until = state.breaker_next_probe_at if state.breaker_opened_at else state.paused_until
    waits = [_wait(reason, may_go, until), _wait("window", closed, None)]
    return [wait for wait in waits if wait.messages]


def _wait(reason: WaitReason, messages: int, until: datetime | None, zones: Sequence[str] = ()) -> BacklogItem:
    return BacklogItem(reason, min(messages, MAX_COUNTED), until, messages > MAX_COUNTED, zones)

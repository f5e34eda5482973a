"""The backlog: what a mailing's pending messages wait for.

Read from indexes at the same cost for any number of messages.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.gateway.repository import GatewayState
from mailing.messages.low_watermark import FROM_LOW_WATERMARK, PENDING
from mailing.messages.states import WaitReason

MAX_COUNTED = 10_000
MAX_WINDOWS = 40  # the world has 38 different UTC offsets
MAX_SAMPLED = 200  # clients whose time zones name those of a window

BacklogReason = WaitReason | Literal["release"]


class BacklogItem(Struct, frozen=True):
    """Messages that wait for the same reason, counted up to MAX_COUNTED; `more`: there are more.

    `until` is when the first may be sent. `zones` are time zones whose local hours begin then, from a sample.
    """

    reason: BacklogReason
    messages: int
    until: datetime | None = None
    more: bool = False
    zones: Sequence[str] = ()


_PENDING = f"mailing_id = :mailing_id AND {PENDING}"
_CLOSED = f"{_PENDING} AND wait_reason = 'window' AND due_at"
# The ORDER BY binds the query to the index: only an index scan can stop after a few of a million rows.
_OF_WINDOW = f"{_CLOSED} BETWEEN o.at AND o.at ORDER BY due_at"

# Clients of one zone have the same next window: one probe of message_by_wait from each window to the next. A window's
# messages are counted up to a limit: 11 windows of 1,000,000 messages in 45-70 ms, as of 100,000.
_WINDOWS = text(f"""
    WITH RECURSIVE send_window (at, number) AS (
        (SELECT due_at, 1 FROM message WHERE {_CLOSED} > now() ORDER BY due_at LIMIT 1)
        UNION ALL
        SELECT next.due_at, o.number + 1 FROM send_window o CROSS JOIN LATERAL (
            SELECT due_at FROM message WHERE {_CLOSED} > o.at ORDER BY due_at LIMIT 1) next
        WHERE o.number < {MAX_WINDOWS}
    )
    SELECT o.at,
        (SELECT count(*) FROM (SELECT FROM message WHERE {_OF_WINDOW} LIMIT {MAX_COUNTED} + 1) m) AS messages,
        ARRAY(SELECT DISTINCT c.timezone
              FROM (SELECT client_id FROM message WHERE {_OF_WINDOW} LIMIT {MAX_SAMPLED}) m
              JOIN client c ON c.id = m.client_id ORDER BY 1) AS zones
    FROM send_window o ORDER BY o.at
""")  # noqa: S608 - composed from constants of this module

# Messages postponed one by one. The ORDER BY binds the query to its index: message_by_wait.
_POSTPONED = text(f"""
    SELECT r.reason, count(*) AS messages, min(m.due_at) AS until
    FROM unnest(ARRAY['retry', 'rate', 'breaker']) AS r (reason)
    CROSS JOIN LATERAL (
        SELECT due_at FROM message WHERE {_PENDING} AND wait_reason BETWEEN r.reason AND r.reason AND due_at > now()
        ORDER BY wait_reason, due_at LIMIT {MAX_COUNTED} + 1) m
    GROUP BY r.reason ORDER BY 3
""")  # noqa: S608 - composed from constants of this module

# Messages within their window, and messages whose window has passed or is invalid. Index: message_due.
_DUE = text(f"""
    SELECT count(*) FILTER (WHERE closes_at > now()) AS may_send,
        count(*) FILTER (WHERE closes_at <= now()) AS closed
    FROM (SELECT closes_at FROM message WHERE {_PENDING} AND {FROM_LOW_WATERMARK} AND due_at <= now()
          ORDER BY due_at, id LIMIT {MAX_COUNTED} + 1) m
""")  # noqa: S608 - composed from constants of this module


async def waiting_for_window(session: AsyncSession, mailing_id: int) -> list[BacklogItem]:
    """List the next windows of local hours that messages wait for, soonest first."""
    found = await session.execute(_WINDOWS, {"mailing_id": mailing_id})
    return [_item(WaitReason.window, row.messages, row.at, row.zones) for row in found]


async def postponed(session: AsyncSession, mailing_id: int) -> list[BacklogItem]:
    """List postponed messages by the reason of the last attempt; `until` is when the first is due."""
    found = await session.execute(_POSTPONED, {"mailing_id": mailing_id})
    return [_item(WaitReason(row.reason), row.messages, row.until) for row in found]


async def due(session: AsyncSession, mailing_id: int, state: GatewayState) -> list[BacklogItem]:
    """List messages that may be sent now and wait for the gateway or the rate limit.

    Messages whose window has passed are listed too, until the next one is computed.
    """
    counts = (await session.execute(_DUE, {"mailing_id": mailing_id})).one()
    reason = WaitReason.breaker if state.breaker_opened_at else WaitReason.rate
    until = state.breaker_next_probe_at if state.breaker_opened_at else state.paused_until
    items = [_item(reason, counts.may_send, until), _item(WaitReason.window, counts.closed, None)]
    return [item for item in items if item.messages]


def _item(reason: WaitReason, messages: int, until: datetime | None, zones: Sequence[str] = ()) -> BacklogItem:
    return BacklogItem(reason, min(messages, MAX_COUNTED), until, messages > MAX_COUNTED, zones)

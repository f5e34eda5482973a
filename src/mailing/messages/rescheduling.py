"""Give messages whose send window has closed, or is void, the next one, or end them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.engine import execute_long
from mailing.database.rows import rows_affected
from mailing.messages.cancellation import pending_of_mailing
from mailing.messages.ending import end, ended_status
from mailing.messages.former_phones import OF_SAME_PHONE
from mailing.messages.locks import lock_for_client_change
from mailing.messages.low_watermark import FROM_LOW_WATERMARK, OF_MAILING, PENDING
from mailing.messages.states import MessageStatus
from mailing.reasons.codes import Reason, ReasonCode, code_column, params_column

# Pending messages whose window has closed. They are looked for in message_due, and only once the first may have closed:
# an index by `closes_at` would cost every message an entry, and a mailing's windows close a few times a day. Among
# 1,000,000 pending messages: 0.1 s.
_CLOSED = f"""
    mailing_id = :mailing_id AND {PENDING} AND {FROM_LOW_WATERMARK} AND closes_at <= now()
    AND (SELECT f.closes_at {OF_MAILING}) <= now()
    ORDER BY due_at, id LIMIT :count
"""

# Index: message_due, then the clients by primary key.
_CLOSED_TIMEZONES = text(f"""
    SELECT DISTINCT c.timezone FROM (SELECT client_id FROM message WHERE {_CLOSED}) m
    LEFT JOIN client c ON c.id = m.client_id
""")  # noqa: S608 - composed from constants


async def timezones_of_closed(session: AsyncSession, mailing_id: int, count: int) -> list[str | None]:
    """Return the time zones of pending messages whose window has closed. None stands for a deleted client."""
    return list((await session.execute(_CLOSED_TIMEZONES, {"mailing_id": mailing_id, "count": count})).scalars())


# The values of `window_columns`, as rows `o`.
WINDOWS = """
    unnest(CAST(:zones AS text[]), CAST(:opens AS timestamptz[]), CAST(:closes AS timestamptz[]),
           CAST(:reason_codes AS text[]), CAST(:reason_params AS text[]))
        AS o (timezone, opens_at, closes_at, reason_code, reason_params)
"""

# pending → pending in the next window; → expired (or unknown) without one; → cancelled if the client was deleted or has
# opted out, or if the phone has had this mailing through another client. A wait for a retry that ends inside the new
# window is kept. An end has the clock's time, because its transaction may have begun before the change that caused it.
# Index: message_due.
_RESCHEDULE = text(f"""
    WITH closed AS (
        SELECT id, client_id, due_at, wait_reason, maybe_accepted, phone FROM message
        WHERE {_CLOSED} FOR UPDATE SKIP LOCKED
    ), of_same_phone AS ({OF_SAME_PHONE.format(unsent="closed")}
    ), decided AS (
        SELECT m.id, o.opens_at, o.closes_at, o.reason_code, CAST(o.reason_params AS jsonb) AS reason_params,
               m.wait_reason <> 'window' AND m.due_at > o.opens_at AND m.due_at < o.closes_at AS keeps_wait,
               CASE WHEN c.id IS NULL THEN 'client_deleted' WHEN c.opted_out THEN 'client_opted_out'
                    WHEN s.reached THEN 'phone_reached' END AS cancelled,
               CASE WHEN c.id IS NULL OR c.opted_out OR s.reached THEN 'cancelled'
                    WHEN o.opens_at IS NULL THEN 'expired' ELSE 'pending' END AS next
        FROM closed m LEFT JOIN client c ON c.id = m.client_id
        LEFT JOIN {WINDOWS} ON o.timezone = c.timezone
        LEFT JOIN of_same_phone s ON s.id = m.id
        WHERE c.id IS NULL OR c.opted_out OR coalesce(s.reached, o.timezone IS NOT NULL)
    )
    UPDATE message m SET
        status = CASE WHEN d.next = 'pending' THEN d.next ELSE {ended_status("d.next")} END,
        due_at = CASE WHEN d.keeps_wait THEN m.due_at ELSE coalesce(d.opens_at, m.due_at) END,
        closes_at = coalesce(d.closes_at, m.closes_at),
        wait_reason = CASE WHEN d.next <> 'pending' THEN NULL WHEN d.keeps_wait THEN m.wait_reason
                       WHEN d.opens_at > now() THEN 'window' END,
        finished_at = CASE WHEN d.next <> 'pending' THEN clock_timestamp() END,
        reason_code = CASE d.next WHEN 'pending' THEN m.reason_code
                          WHEN 'expired' THEN d.reason_code ELSE d.cancelled END,
        reason_params = CASE d.next WHEN 'pending' THEN m.reason_params WHEN 'expired' THEN d.reason_params END
    FROM decided d WHERE m.id = d.id
""")  # noqa: S608 - composed from constants


class SendWindow(msgspec.Struct, frozen=True):
    """When clients of one time zone may be sent to next. Without `opens_at` never before the end; `reason` says why."""

    timezone: str
    opens_at: datetime | None
    closes_at: datetime | None
    reason: Reason | None


async def reschedule_closed(session: AsyncSession, mailing_id: int, count: int, windows: Sequence[SendWindow]) -> int:
    """Call under `lock_for_plan`.

    Left for the next call are messages of a time zone without a window here, and of a phone that is in a call on behalf
    of another client.
    """
    values = {"mailing_id": mailing_id, "count": count}
    return await rows_affected(session, _RESCHEDULE, **values, **window_columns(windows))


_MAY_HAVE_CLOSED = text(f"SELECT f.closes_at <= now() {OF_MAILING}")

# Exact only while the counters are locked, as the trigger's part: what another transaction makes pending is seen here,
# or lowers it again. Messages that are being sent are read, too, so that the index is enough.
_RAISE_CLOSING = text(f"""
    UPDATE message_low_watermark SET closes_at = coalesce((
        SELECT min(closes_at) FROM message WHERE mailing_id = :mailing_id AND phase = 'open' AND {FROM_LOW_WATERMARK}
    ), 'infinity')
    WHERE mailing_id = :mailing_id AND closes_at <= now()
""")  # noqa: S608 - composed from constants


async def raise_closing(session: AsyncSession, mailing_id: int) -> None:
    """Store when the window of the first pending message closes: no search is needed until then. Commit soon."""
    if await session.scalar(_MAY_HAVE_CLOSED, {"mailing_id": mailing_id}):
        await pending_of_mailing(session, mailing_id)
        await session.execute(_RAISE_CLOSING, {"mailing_id": mailing_id})


class PendingSlice(msgspec.Struct, frozen=True):
    """Pending messages of a mailing with ids above `after` and up to `last`, and their clients' time zones."""

    after: int
    last: int
    timezones: list[str]


# Index: message_listed, then the clients by primary key. 20,000 rows: 60 ms.
_PENDING_SLICE = text(f"""
    SELECT max(m.id) AS last,
        coalesce(array_agg(DISTINCT c.timezone) FILTER (WHERE c.id IS NOT NULL), '{{}}') AS timezones
    FROM (
        SELECT id, client_id FROM message WHERE mailing_id = :mailing_id AND {PENDING} AND id > :after
        ORDER BY phase, id LIMIT :count
    ) m LEFT JOIN client c ON c.id = m.client_id
""")  # noqa: S608 - composed from constants


async def next_pending_slice(session: AsyncSession, mailing_id: int, *, after: int, count: int) -> PendingSlice | None:
    """Return the next `count` pending messages; None at the end."""
    row = (await session.execute(_PENDING_SLICE, {"mailing_id": mailing_id, "after": after, "count": count})).one()
    return PendingSlice(after, row.last, row.timezones) if row.last else None


# Windows that differ from those computed now are void. An open one began at whatever time it was planned.
_INVALIDATE_OUTDATED = text(f"""
    UPDATE message m SET closes_at = '-infinity'
    FROM client c JOIN {WINDOWS} ON o.timezone = c.timezone
    WHERE m.mailing_id = :mailing_id AND m.phase = 'open' AND m.status = 'pending' AND m.id > :after AND m.id <= :last
      AND c.id = m.client_id AND m.closes_at <> '-infinity'
      AND (m.closes_at IS DISTINCT FROM o.closes_at
           OR (m.due_at < o.opens_at OR m.wait_reason = 'window' AND m.due_at <> o.opens_at)
               AND greatest(m.due_at, o.opens_at) > now())
""")  # noqa: S608 - composed from a constant


async def reschedule_outdated(
    session: AsyncSession, mailing_id: int, part: PendingSlice, windows: Sequence[SendWindow], *, count: int
) -> int:
    """Give messages of the slice whose window is none of `windows` their next one, or end them. Return how many.

    `count` bounds the messages that are closed, these and others, and find their next window.

    Call it under `lock_for_plan`. 20,000 rows: 0.1 s if none differs.
    """
    values = {"mailing_id": mailing_id, "after": part.after, "last": part.last}
    outdated = await rows_affected(session, _INVALIDATE_OUTDATED, **values, **window_columns(windows))
    if outdated:
        await reschedule_closed(session, mailing_id, count, windows)
    return outdated


_LAST_ATTEMPT = """CASE WHEN m.reason_code IS NOT NULL
    THEN coalesce(m.reason_params, '{}') || jsonb_build_object('last', m.reason_code) END"""
# pending → expired (or unknown): the end has come. Index: message_due.
_EXPIRE_OF_MAILING = text(f"""
    WITH late AS (
        SELECT id FROM message WHERE mailing_id = :mailing_id AND {PENDING} AND {FROM_LOW_WATERMARK}
        ORDER BY due_at, id LIMIT :count FOR UPDATE SKIP LOCKED
    )
    UPDATE message m SET {end(MessageStatus.expired, ReasonCode.end_reached, params=_LAST_ATTEMPT)}
    FROM late WHERE m.id = late.id
""")  # noqa: S608 - composed from constants


async def expire_of_mailing(session: AsyncSession, mailing_id: int, count: int) -> int:
    """Call only after the mailing's end. The reason keeps that of the last attempt."""
    return await rows_affected(session, _EXPIRE_OF_MAILING, mailing_id=mailing_id, count=count)


# The window [due_at, closes_at) of unsent messages is void; the settle job computes the next one. Locked by id. Index:
# message_once. 1,000,000 messages: 20 s.
_INVALIDATE_OF = """
    UPDATE message m SET closes_at = '-infinity'
    FROM (
        SELECT id FROM message WHERE client_id IN ({client_ids}) AND status IN ('pending', 'sending')
        ORDER BY id FOR UPDATE
    ) AS unsent
    WHERE m.id = unsent.id
"""
_INVALIDATE = text(_INVALIDATE_OF.format(client_ids=":client_id"))
_INVALIDATE_OF_MOVED = _INVALIDATE_OF.format(client_ids="SELECT id FROM moved_client")


async def invalidate_windows_of_client(session: AsyncSession, client_id: int) -> None:
    """Call after the client moved to another time zone: nothing is sent to it before its local hours are known again.

    No plan runs from here to the commit.
    """
    await lock_for_client_change(session)
    await session.execute(_INVALIDATE, {"client_id": client_id})


async def invalidate_windows_of_moved_clients(session: AsyncSession) -> None:
    """Do as `invalidate_windows_of_client` for those that an import moved, in the temporary table `moved_client`."""
    await lock_for_client_change(session)
    await execute_long(session, _INVALIDATE_OF_MOVED)


def window_columns(windows: Sequence[SendWindow]) -> dict[str, list[Any]]:
    return {
        "zones": [window.timezone for window in windows],
        "opens": [window.opens_at for window in windows],
        "closes": [window.closes_at for window in windows],
        "reason_codes": code_column(window.reason for window in windows),
        "reason_params": params_column(window.reason for window in windows),
    }

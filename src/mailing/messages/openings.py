"""When messages may be sent: the plan of an audience, and the next opening once one has passed.

An opening is computed in Python once for each time zone and applied here to sets of clients.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.db import driver
from mailing.messages.repository import UNSELECTED, lock_for_client_change, rows_moved

# Index: message_closing, then the clients by primary key.
_CLOSED_ZONES = text("""
    SELECT DISTINCT c.timezone FROM (
        SELECT client_id FROM message WHERE mailing_id = :mailing_id AND status = 'pending' AND closes_at <= now()
        ORDER BY closes_at LIMIT :count
    ) m LEFT JOIN client c ON c.id = m.client_id
""")


async def zones_of_closed(session: AsyncSession, mailing_id: int, count: int) -> list[str | None]:
    """The time zones of pending messages whose opening has passed; None stands for a client that is gone."""
    return list((await session.execute(_CLOSED_ZONES, {"mailing_id": mailing_id, "count": count})).scalars())


# pending → pending at the next opening; → expired (or unknown) without one; → cancelled where the client is gone
# or has opted out.
# A wait for a retry that reaches into the new opening is kept. Index: message_closing.
_REOPEN = text("""
    WITH closed AS (
        SELECT id, client_id, due_at, waiting FROM message
        WHERE mailing_id = :mailing_id AND status = 'pending' AND closes_at <= now()
        ORDER BY closes_at LIMIT :count FOR UPDATE SKIP LOCKED
    ), decided AS (
        SELECT m.id, o.opens_at, o.closes_at, o.reason,
               m.waiting <> 'window' AND m.due_at > o.opens_at AND m.due_at < o.closes_at AS keeps_wait,
               c.opted_out,
               CASE WHEN c.id IS NULL OR c.opted_out THEN 'cancelled'
                    WHEN o.opens_at IS NULL THEN 'expired' ELSE 'pending' END AS next
        FROM closed m LEFT JOIN client c ON c.id = m.client_id
        LEFT JOIN unnest(CAST(:zones AS text[]), CAST(:opens AS timestamptz[]), CAST(:closes AS timestamptz[]),
                         CAST(:reasons AS text[])) AS o (timezone, opens_at, closes_at, reason)
            ON o.timezone = c.timezone
        WHERE c.id IS NULL OR c.opted_out OR o.timezone IS NOT NULL
    )
    UPDATE message m SET
        status = CASE WHEN d.next <> 'pending' AND m.ambiguous THEN 'unknown' ELSE d.next END,
        due_at = CASE WHEN d.keeps_wait THEN m.due_at ELSE coalesce(d.opens_at, m.due_at) END,
        closes_at = coalesce(d.closes_at, m.closes_at),
        waiting = CASE WHEN d.next <> 'pending' THEN NULL WHEN d.keeps_wait THEN m.waiting
                       WHEN d.opens_at > now() THEN 'window' END,
        finished_at = CASE WHEN d.next <> 'pending' THEN now() END,
        last_error = CASE d.next WHEN 'pending' THEN m.last_error WHEN 'expired' THEN d.reason
            ELSE CASE WHEN d.opted_out THEN 'the client opted out' ELSE 'the client was deleted' END END
    FROM decided d WHERE m.id = d.id
""")


class Opening(msgspec.Struct, frozen=True):
    """When clients of one zone may be sent to next. No `opens_at`: never before the end, and `reason` says why."""

    timezone: str
    opens_at: datetime | None
    closes_at: datetime | None
    reason: str | None


async def reopen(session: AsyncSession, mailing_id: int, count: int, openings: Sequence[Opening]) -> int:
    """Call under `lock_for_plan`. A zone that is not among `openings` is left for the next look."""
    return await rows_moved(session, _REOPEN, mailing_id=mailing_id, count=count, **_columns(openings))


class Audience(msgspec.Struct, frozen=True):
    tags: list[str]
    operator_codes: list[str]
    upto: int
    """The newest client that belongs to it."""

    @property
    def leading(self) -> tuple[str, str] | None:
        """The column and the single value by whose index it is found. Of several values, a client may go from one to
        another meanwhile, and a walk value by value would miss it.
        """
        for column, values in (("tag", self.tags), ("operator_code", self.operator_codes)):
            if len(values) == 1:
                return column, values[0]
        return None

    @property
    def values(self) -> dict[str, object]:
        values: dict[str, object] = {"tags": self.tags, "operator_codes": self.operator_codes}
        return values | {"led": self.leading[1]} if self.leading else values


_WALK = "c.id > :after AND c.id <= :upto"


def _led(statement: TextClause, audience: Audience) -> TextClause:
    """Along (column, id), whatever the planner believes: it would rather walk all clients and throw the others away."""
    if audience.leading is None:
        return statement
    column, _ = audience.leading
    led, bound = f"(c.{column}, c.id)", "(CAST(:led AS text), CAST(:{} AS bigint))"
    walk = f"{led} > {bound.format('after')} AND {led} <= {bound.format('upto')}"
    return text(statement.text.replace(_WALK, walk).replace("ORDER BY c.id", f"ORDER BY c.{column}, c.id"))


# The next clients of the audience. Index: the primary key, or that of the leading filter. 20,000 rows: 10 ms.
_SLICE = text("""
    SELECT max(id), array_agg(DISTINCT timezone) FROM (
        SELECT c.id, c.timezone FROM client c
        WHERE c.id > :after AND c.id <= :upto AND NOT c.opted_out
          AND (cardinality(CAST(:tags AS text[])) = 0 OR c.tag = ANY(CAST(:tags AS text[])))
          AND (cardinality(CAST(:operator_codes AS text[])) = 0
               OR c.operator_code = ANY(CAST(:operator_codes AS text[])))
        ORDER BY c.id LIMIT :count
    ) s
""")


class Slice(msgspec.Struct, frozen=True):
    """Clients of an audience: those behind `after`, `upto` included, and their time zones."""

    after: int
    upto: int
    timezones: list[str]


async def next_slice(session: AsyncSession, audience: Audience, *, after: int, count: int) -> Slice | None:
    """None behind the end."""
    values = {"after": after, "upto": audience.upto, "count": count} | audience.values
    last, zones = (await session.execute(_led(_SLICE, audience), values)).one()
    return Slice(after, last, zones) if last else None


# The plan, one slice of clients: idempotent, so that starting, editing and healing are the same statement. An edit
# takes back what an edit or the end had decided. Nobody who is selected is left out: a client whose zone has no opening
# here (it moved, or came, since the zones were read) gets a message whose opening is void, for `reopen` to compute.
# 20,000 rows: 0.2-0.3 s.
_PLAN = text("""
    INSERT INTO message AS m (mailing_id, client_id, status, due_at, closes_at, waiting, finished_at, last_error)
    SELECT :mailing_id, c.id, CASE WHEN o.never THEN 'expired' ELSE 'pending' END,
           coalesce(o.opens_at, now()),
           CASE WHEN o.timezone IS NULL THEN '-infinity' ELSE coalesce(o.closes_at, now()) END,
           CASE WHEN o.opens_at > now() THEN 'window' END,
           CASE WHEN o.never THEN now() END, o.reason
    FROM client c
    LEFT JOIN (
        SELECT *, opens_at IS NULL AS never
        FROM unnest(CAST(:zones AS text[]), CAST(:opens AS timestamptz[]), CAST(:closes AS timestamptz[]),
                    CAST(:reasons AS text[])) AS z (timezone, opens_at, closes_at, reason)
    ) o ON o.timezone = c.timezone
    WHERE c.id > :after AND c.id <= :upto AND NOT c.opted_out
      AND (cardinality(CAST(:tags AS text[])) = 0 OR c.tag = ANY(CAST(:tags AS text[])))
      AND (cardinality(CAST(:operator_codes AS text[])) = 0 OR c.operator_code = ANY(CAST(:operator_codes AS text[])))
    ORDER BY c.id
    ON CONFLICT ON CONSTRAINT message_once DO UPDATE SET
        status = CASE WHEN excluded.status = 'expired' AND m.ambiguous THEN 'unknown' ELSE excluded.status END,
        due_at = CASE WHEN m.waiting = 'retry' AND m.due_at > excluded.due_at AND m.due_at < excluded.closes_at
                      THEN m.due_at ELSE excluded.due_at END,
        waiting = CASE WHEN m.waiting = 'retry' AND m.due_at > excluded.due_at AND m.due_at < excluded.closes_at
                       THEN m.waiting ELSE excluded.waiting END,
        closes_at = excluded.closes_at, finished_at = excluded.finished_at,
        last_error = coalesce(excluded.last_error, CASE WHEN m.status = 'pending' THEN m.last_error END)
    WHERE m.status = 'pending' AND (
            m.closes_at <> excluded.closes_at OR excluded.status <> 'pending'
            OR m.due_at <> excluded.due_at AND greatest(m.due_at, excluded.due_at) > now())
       OR excluded.status = 'pending'
           AND (m.status = 'expired' OR m.status = 'cancelled' AND m.last_error = :unselected)
""")


async def plan_slice(
    session: AsyncSession, mailing_id: int, audience: Audience, openings: Sequence[Opening], part: Slice
) -> int:
    """Call under `lock_for_plan`."""
    return await rows_moved(
        session,
        _led(_PLAN, audience),
        mailing_id=mailing_id,
        after=part.after,
        upto=part.upto,
        unselected=UNSELECTED,
        **audience.values,
        **_columns(openings),
    )


# The one message of a test: due at once.
_ADD = text("""
    INSERT INTO message (mailing_id, client_id, due_at, closes_at)
    VALUES (:mailing_id, :client_id, now(), :closes_at) RETURNING id
""")


async def add_message(session: AsyncSession, mailing_id: int, client_id: int, *, closes_at: datetime) -> int:
    """Returns its id."""
    added = {"mailing_id": mailing_id, "client_id": client_id, "closes_at": closes_at}
    message_id: int = (await session.execute(_ADD, added)).scalar_one()
    return message_id


# After an edit: pending → cancelled (or unknown) where the filter no longer matches, among the next messages of the
# mailing. Index: message_listed. 20,000 messages: 0.2-0.4 s.
_CANCEL_UNSELECTED = text("""
    WITH next AS (
        SELECT id, client_id FROM message
        WHERE mailing_id = :mailing_id AND status = 'pending' AND id > :after ORDER BY id LIMIT :count
    ), cancelled AS (
        UPDATE message m SET
            status = CASE WHEN m.ambiguous THEN 'unknown' ELSE 'cancelled' END,
            finished_at = now(), waiting = NULL, last_error = :unselected
        FROM next n JOIN client c ON c.id = n.client_id
        WHERE m.id = n.id AND m.status = 'pending'
          AND NOT ((cardinality(CAST(:tags AS text[])) = 0 OR coalesce(c.tag = ANY(CAST(:tags AS text[])), false))
            AND (cardinality(CAST(:operator_codes AS text[])) = 0
                 OR c.operator_code = ANY(CAST(:operator_codes AS text[]))))
    )
    SELECT max(id) FROM next
""")


async def cancel_unselected(
    session: AsyncSession, mailing_id: int, audience: Audience, *, after: int, count: int
) -> int | None:
    """Returns the last message of the slice, or None when there was none left."""
    bounds = {"mailing_id": mailing_id, "after": after, "count": count, "unselected": UNSELECTED}
    filters = {"tags": audience.tags, "operator_codes": audience.operator_codes}
    last: int | None = await session.scalar(_CANCEL_UNSELECTED, bounds | filters)
    return last


# An import moved the clients in the temporary table moved_client (id) to other time zones: their openings are void.
# Locked in the order of ids. Index: message_once. 1,000,000 messages: 20 s.
_VOID_OF_MOVED = """
    UPDATE message m SET closes_at = '-infinity'
    FROM (
        SELECT id FROM message
        WHERE client_id IN (SELECT id FROM moved_client) AND status IN ('pending', 'sending')
        ORDER BY id FOR UPDATE
    ) AS unsent
    WHERE m.id = unsent.id
"""


async def void_openings_of_moved_clients(session: AsyncSession, *, timeout_s: float) -> None:
    """As `void_openings_of_client`, for many: they stand in the session's temporary table `moved_client`."""
    await lock_for_client_change(session)
    connection = await driver(session)
    await connection.execute(_VOID_OF_MOVED, timeout=timeout_s)


def _columns(openings: Sequence[Opening]) -> dict[str, list[Any]]:
    return {
        "zones": [opening.timezone for opening in openings],
        "opens": [opening.opens_at for opening in openings],
        "closes": [opening.closes_at for opening in openings],
        "reasons": [opening.reason for opening in openings],
    }

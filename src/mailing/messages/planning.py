"""The statements of a plan: which clients get a message, and its send window."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from sqlalchemy import TextClause, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.rows import rows_affected
from mailing.messages.ending import end, ended_status
from mailing.messages.filters import IS_SELECTED, IS_UNSELECTED
from mailing.messages.former_phones import HAS_FORMER
from mailing.messages.low_watermark import PENDING
from mailing.messages.rescheduling import WINDOWS, SendWindow, window_columns
from mailing.messages.states import MessageStatus
from mailing.reasons.codes import ReasonCode


class Audience(msgspec.Struct, frozen=True):
    tags: list[str]
    operator_codes: list[str]
    max_client_id: int
    """The newest client that belongs to it."""

    @property
    def index_filter(self) -> tuple[str, str] | None:
        """The (column, value) whose index drives the scan.

        Only for a single value: with several, a client that changes value during the scan would be missed.
        """
        for column, values in (("tag", self.tags), ("operator_code", self.operator_codes)):
            if len(values) == 1:
                return column, values[0]
        return None

    @property
    def filter_values(self) -> dict[str, object]:
        return {"tags": self.tags, "operator_codes": self.operator_codes}


def _scanned(
    statement: TextClause, audience: Audience, *, on_conflict: str = ""
) -> tuple[TextClause, dict[str, object]]:
    """Return the statement with {scan} and {order} along the index of the audience, and the values of its filter.

    Along (column, id): with an equality the planner would rather scan all clients and filter the others away.
    """
    scan, order, values = "c.id > :after AND c.id <= :upto", "c.id", audience.filter_values
    if audience.index_filter:
        column, value = audience.index_filter
        order, bound = f"c.{column}, c.id", "(CAST(:indexed_value AS text), CAST(:{} AS bigint))"
        scan = f"({order}) > {bound.format('after')} AND ({order}) <= {bound.format('upto')}"
        values["indexed_value"] = value
    return text(statement.text.format(scan=scan, order=order, on_conflict=on_conflict)), values


# The next clients of the audience. Index: the primary key, or that of the index filter. 20,000 rows: 4 ms; 6 with
# array_agg(DISTINCT timezone), which sorts them.
_SLICE = text(f"""
    SELECT max(last) AS last, array_agg(timezone) AS timezones FROM (
        SELECT timezone, max(id) AS last FROM (
            SELECT c.id, c.timezone FROM client c
            WHERE {{scan}} AND NOT c.opted_out AND {IS_SELECTED}
            ORDER BY {{order}} LIMIT :count
        ) s GROUP BY timezone
    ) z
""")  # noqa: S608 - composed from constants


class ClientSlice(msgspec.Struct, frozen=True):
    """Clients of an audience with ids above `after` and up to `last`, and their time zones."""

    after: int
    last: int
    timezones: list[str]


async def next_slice(session: AsyncSession, audience: Audience, *, after: int, count: int) -> ClientSlice | None:
    """Return the next `count` clients; None at the end."""
    statement, values = _scanned(_SLICE, audience)
    bounds = {"after": after, "upto": audience.max_client_id, "count": count}
    row = (await session.execute(statement, values | bounds)).one()
    return ClientSlice(after, row.last, row.timezones) if row.last else None


# The plan for one slice of clients. No selected client is left out: one whose time zone has no window here (it moved,
# or was added, since the time zones were read) gets a message with a void window, and `reschedule_closed` finds it one;
# so does one whose phone may have had the message already, and `reschedule_closed` decides. The sort draws all ids
# before the first row is written: slices side by side fill different pages of the indexes. 20,000 rows: 0.15-0.3 s.
_PLAN = text(f"""
    INSERT INTO message AS m (id, mailing_id, client_id, status, due_at, closes_at, wait_reason, finished_at,
                              reason_code, reason_params)
    OVERRIDING SYSTEM VALUE
    SELECT n.message_id, CAST(:mailing_id AS bigint), n.id,
           CASE WHEN o.never THEN 'expired' ELSE 'pending' END,
           coalesce(o.opens_at, now()),
           CASE WHEN o.timezone IS NULL OR n.has_former THEN '-infinity' ELSE coalesce(o.closes_at, now()) END,
           CASE WHEN o.opens_at > now() THEN 'window' END,
           CASE WHEN o.never THEN now() END, o.reason_code, CAST(o.reason_params AS jsonb)
    FROM (
        SELECT * FROM (
            SELECT nextval('message_id_seq') AS message_id, c.id, c.timezone, {HAS_FORMER} AS has_former
            FROM client c WHERE {{scan}} AND NOT c.opted_out AND {IS_SELECTED}
            ORDER BY {{order}}
        ) numbered ORDER BY message_id
    ) n LEFT JOIN (
        SELECT *, opens_at IS NULL AS never FROM {WINDOWS}
    ) o ON o.timezone = n.timezone
    {{on_conflict}}
""")  # noqa: S608 - composed from a constant

# For a plan that may find messages: after an edit, or after a crash. An edit takes back what an earlier edit or the end
# had decided.
_REPLAN = f"""
    ON CONFLICT ON CONSTRAINT message_once DO UPDATE SET
        status = CASE excluded.status WHEN 'expired' THEN {ended_status("'expired'")} ELSE excluded.status END,
        due_at = CASE WHEN m.wait_reason = 'retry' AND m.due_at > excluded.due_at AND m.due_at < excluded.closes_at
                      THEN m.due_at ELSE excluded.due_at END,
        wait_reason = CASE WHEN m.wait_reason = 'retry' AND m.due_at > excluded.due_at AND m.due_at < excluded.closes_at
                       THEN m.wait_reason ELSE excluded.wait_reason END,
        closes_at = excluded.closes_at, finished_at = excluded.finished_at,
        reason_code = coalesce(excluded.reason_code, CASE WHEN m.status = 'pending' THEN m.reason_code END),
        reason_params = CASE WHEN excluded.reason_code IS NOT NULL THEN excluded.reason_params
                             WHEN m.status = 'pending' THEN m.reason_params END
    WHERE m.status = 'pending' AND (
            m.closes_at <> excluded.closes_at OR excluded.status <> 'pending'
            OR m.due_at <> excluded.due_at AND greatest(m.due_at, excluded.due_at) > now())
       OR excluded.status = 'pending'
           AND (m.status = 'expired' OR m.status = 'cancelled' AND m.reason_code = 'unselected')
"""


async def plan_slice(
    session: AsyncSession,
    mailing_id: int,
    audience: Audience,
    windows: Sequence[SendWindow],
    part: ClientSlice,
    *,
    on_conflict: str = _REPLAN,
) -> int:
    """Plan a slice, and bring messages that it has already up to date. Call it under `lock_for_plan`."""
    statement, values = _scanned(_PLAN, audience, on_conflict=on_conflict)
    values |= {"mailing_id": mailing_id, "after": part.after, "upto": part.last}
    return await rows_affected(session, statement, **values, **window_columns(windows))


async def plan_new_slice(
    session: AsyncSession, mailing_id: int, audience: Audience, windows: Sequence[SendWindow], part: ClientSlice
) -> int | None:
    """Do as `plan_slice` for a slice without messages, at three quarters of its cost. None: it had one."""
    try:
        async with session.begin_nested():
            return await plan_slice(session, mailing_id, audience, windows, part, on_conflict="")
    except IntegrityError:
        return None


# The one message of a test send: due at once.
_ADD = text("""
    INSERT INTO message (mailing_id, client_id, due_at, closes_at)
    VALUES (:mailing_id, :client_id, now(), :closes_at) RETURNING id
""")


async def add_message(session: AsyncSession, mailing_id: int, client_id: int, *, closes_at: datetime) -> int:
    values = {"mailing_id": mailing_id, "client_id": client_id, "closes_at": closes_at}
    return int((await session.execute(_ADD, values)).scalar_one())


# After an edit: pending → cancelled (or unknown) where the filter no longer matches, among the next messages of the
# mailing, locked by id as imports lock them. Index: message_listed. 20,000 messages: 0.2-0.4 s.
_CANCEL_UNSELECTED = text(f"""
    WITH next AS (
        SELECT id, client_id FROM message
        WHERE mailing_id = :mailing_id AND {PENDING} AND id > :after
        ORDER BY phase, id LIMIT :count
    ), unselected AS (
        SELECT m.id FROM next n JOIN client c ON c.id = n.client_id JOIN message m ON m.id = n.id
        WHERE m.status = 'pending' AND {IS_UNSELECTED} ORDER BY m.id FOR UPDATE OF m
    ), cancelled AS (
        UPDATE message m SET {end(MessageStatus.cancelled, ReasonCode.unselected)}
        FROM unselected u WHERE m.id = u.id
    )
    SELECT max(id) FROM next
""")  # noqa: S608 - composed from constants


async def cancel_unselected(
    session: AsyncSession, mailing_id: int, audience: Audience, *, after: int, count: int
) -> int | None:
    """Return the last message of the slice, or None when there was none left."""
    bounds = {"mailing_id": mailing_id, "after": after, "count": count}
    last: int | None = await session.scalar(_CANCEL_UNSELECTED, bounds | audience.filter_values)
    return last

"""Read messages: one with its attempts, and pages of a mailing's or a client's messages."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import convert
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.errors import NotFound
from mailing.gateway.row import ONLY_ROW
from mailing.messages.low_watermark import FROM_LOW_WATERMARK
from mailing.messages.schemas import (
    AttemptOut,
    Delivery,
    MessageDetail,
    MessageOut,
    ReceiptOut,
    ResolutionOut,
    WaitingFor,
)
from mailing.messages.states import MessageStatus, WaitReason
from mailing.reasons.codes import stored_reason, words_of
from mailing.restore.repository import RESTORED

# As in the claim: the next call uses the current phone and text, unless an attempt with others may have been accepted.
_USES_CURRENT = "m.status = 'pending' AND NOT m.maybe_accepted"

# A due message waits for the gateway or for a slot of the rate limit. Before it is due, the plan or the last attempt
# has set what it waits for.
_COLUMNS = f"""
    m.id, coalesce(g.test_of_mailing_id, g.id) AS mailing_id, m.client_id,
    CASE WHEN g.redacted_at IS NULL
         THEN coalesce(CASE WHEN {_USES_CURRENT} THEN c.phone END, m.phone, c.phone, '') ELSE '' END AS phone,
    m.status, m.counted_attempts AS attempts, m.due_at,
    CASE WHEN m.status = 'sent' THEN m.finished_at END AS sent_at, m.reason_code, m.reason_params,
    CASE WHEN m.status <> 'pending' THEN NULL
         WHEN g.status = 'paused' OR w.stopped_at IS NOT NULL OR {RESTORED} THEN 'pause'
         WHEN m.due_at > now() THEN coalesce(m.wait_reason, 'window')
         WHEN m.closes_at <= now() THEN 'window'
         WHEN w.breaker_opened_at IS NOT NULL THEN 'breaker'
         ELSE 'rate' END AS waiting_reason,
    CASE WHEN g.status <> 'running' OR w.stopped_at IS NOT NULL OR {RESTORED} THEN NULL
         WHEN m.due_at > now() THEN m.due_at
         WHEN m.closes_at <= now() THEN NULL
         WHEN w.breaker_opened_at IS NOT NULL THEN w.breaker_next_probe_at
         WHEN w.paused_until > now() THEN w.paused_until END AS waiting_until,
    (ARRAY['accepted', 'undelivered', 'delivered'])[r.state] AS receipt, r.code AS receipt_code, r.at AS receipt_at
"""
_RECEIPT = "LEFT JOIN receipt r ON r.message_id = m.id"

# By primary key.
_ONE = text(f"""
    SELECT {_COLUMNS}, t.text, g.test_of_mailing_id IS NOT NULL AS test
    FROM message m JOIN mailing g ON g.id = m.mailing_id
    JOIN mailing_text t ON t.mailing_id = g.id
        AND t.revision = CASE WHEN {_USES_CURRENT} THEN g.text_revision
            ELSE coalesce(m.text_revision, g.text_revision) END
    LEFT JOIN client c ON c.id = m.client_id LEFT JOIN mailing tested ON tested.id = g.test_of_mailing_id
    JOIN gateway w ON w.{ONLY_ROW} {_RECEIPT}
    WHERE m.id = :id AND g.deleted_at IS NULL AND tested.deleted_at IS NULL
""")  # noqa: S608 - composed from constants of this module

_ATTEMPTS = text("""
    SELECT number, started_at, duration_ms, outcome, http_status, code, reason_code, reason_params, provider_id
    FROM attempt WHERE message_id = :id ORDER BY number
""")

# Index: event_of_message.
_RESOLUTIONS = text("""
    SELECT at, actor AS by, detail ->> 'as' AS "as", detail ->> 'note' AS note FROM event
    WHERE message_id = :id AND kind = 'message.resolved' ORDER BY id
""")

# The next messages in each of these statuses, merged: a probe of message_listed for each phase that occurs. For one
# phase in the order of ids, the planner may scan the primary key instead, and all of it for a rare one; in the order of
# phase and id it can't. A deep page of 20,000 messages: 0.2 ms instead of 12.
_NEXT = """
    SELECT each.* FROM unnest(ARRAY(
        SELECT DISTINCT CASE WHEN {unsent} THEN 'open' ELSE asked.status END
        FROM mailing_counts k CROSS JOIN unnest(CAST(:statuses AS text[])) AS asked (status)
        WHERE k.mailing_id = :mailing_id AND CAST(to_jsonb(k) ->> asked.status AS bigint) > 0
            AND {which}
    )) AS wanted (phase)
    CROSS JOIN LATERAL (
        SELECT * FROM message
        WHERE mailing_id = :mailing_id AND (phase, id) > (wanted.phase, CAST(:cursor AS bigint))
          AND (phase, id) <= (wanted.phase, {last}) AND status = ANY(CAST(:statuses AS text[]))
        ORDER BY phase, id LIMIT :count
    ) each
    ORDER BY each.id LIMIT :count
"""
_UNSENT = "asked.status IN ('pending', 'sending')"
_ENDED = _NEXT.format(unsent=_UNSENT, which=f"NOT {_UNSENT}", last=2**63 - 1)
# Sent messages have left dead index entries in the phase of open ones, for as long as a snapshot is open. Behind the
# page they are scanned in the index, but none of their rows is read.
_NOT_ENDED = _NEXT.format(
    unsent=_UNSENT,
    which=_UNSENT,
    last=f"coalesce((SELECT max(id) FROM ended HAVING count(*) = :count), {2**63 - 1})",  # noqa: S608 - constants
)
_JOINED = f"""
    JOIN mailing g ON g.id = m.mailing_id LEFT JOIN client c ON c.id = m.client_id JOIN gateway w ON w.{ONLY_ROW}
    {_RECEIPT}
    ORDER BY m.id
"""
_PAGE = text(f"""
    WITH ended AS MATERIALIZED ({_ENDED})
    SELECT {_COLUMNS} FROM (
        (SELECT * FROM ended UNION ALL ({_NOT_ENDED})) ORDER BY id LIMIT :count
    ) m {_JOINED}
""")  # noqa: S608 - composed from constants of this module

# Those that are being sent, a few thousand at most: nearly all are before the low watermark. Beyond it no more are
# looked for than there are. Index: message_due.
_SENDING = "SELECT * FROM message WHERE mailing_id = :mailing_id AND phase = 'open' AND status = 'sending' AND"
_PAGE_SENDING = text(f"""
    WITH before AS MATERIALIZED ({_SENDING} NOT {FROM_LOW_WATERMARK}), beyond AS MATERIALIZED (
        {_SENDING} {FROM_LOW_WATERMARK} ORDER BY due_at, id
        LIMIT (SELECT sending FROM mailing_counts WHERE mailing_id = :mailing_id) - (SELECT count(*) FROM before)
    )
    SELECT {_COLUMNS} FROM (
        (SELECT * FROM before WHERE id > :cursor UNION ALL SELECT * FROM beyond WHERE id > :cursor)
        ORDER BY id LIMIT :count
    ) m {_JOINED}
""")  # noqa: S608 - composed from constants of this module

# Index: receipt_listed, in keyset order; then the primary keys.
_REPORTED = """
    SELECT m.* FROM receipt reported JOIN message m ON m.id = reported.message_id
    WHERE reported.mailing_id = :mailing_id AND reported.state = :state AND reported.message_id > :cursor
        AND m.status = ANY(:statuses)
    ORDER BY reported.message_id LIMIT :count
"""
# Index: message_listed, and receipt_pkey for each. Receipts that have come are passed over: 0.3 s for 1,000,000.
_AWAITED = """
    SELECT m.* FROM message m
    WHERE m.mailing_id = :mailing_id AND (m.phase, m.id) > ('sent', CAST(:cursor AS bigint)) AND m.phase <= 'sent'
        AND m.status = ANY(:statuses)
        AND NOT EXISTS (SELECT FROM receipt f WHERE f.message_id = m.id AND f.state > 1)
    ORDER BY m.phase, m.id LIMIT :count
"""
_PAGE_REPORTED, _PAGE_AWAITED = (
    text(f"SELECT {_COLUMNS} FROM ({found}) m {_JOINED}")  # noqa: S608 - constants of this module
    for found in (_REPORTED, _AWAITED)
)
_STATES: Mapping[Delivery, int] = {Delivery.undelivered: 2, Delivery.delivered: 3}

# The newest first. Index: message_once; a client has as many messages as there were mailings, so they are sorted.
_OF_CLIENT = text(f"""
    SELECT {_COLUMNS} FROM message m JOIN mailing g ON g.id = m.mailing_id
    LEFT JOIN client c ON c.id = m.client_id JOIN gateway w ON w.{ONLY_ROW} {_RECEIPT}
    WHERE m.client_id = :client_id AND m.id < :before AND g.deleted_at IS NULL ORDER BY m.id DESC LIMIT :count
""")  # noqa: S608 - composed from constants of this module

# Index: message_once.
_COUNTS_OF_CLIENT = text("SELECT status, count(*) FROM message WHERE client_id = :client_id GROUP BY status")


# The client by its phone, then message_once: at most one.
_TO = text(f"""
    SELECT {_COLUMNS} FROM client c JOIN message m ON m.client_id = c.id AND m.mailing_id = :mailing_id
    JOIN mailing g ON g.id = m.mailing_id JOIN gateway w ON w.{ONLY_ROW} {_RECEIPT} WHERE c.phone = :phone
""")  # noqa: S608 - composed from constants of this module


async def get_message(session: AsyncSession, message_id: int, *, language: str = "en") -> MessageDetail:
    """Read a message with its attempts, and the words for reasons in `language`."""
    row = (await session.execute(_ONE, {"id": message_id})).mappings().first()
    if row is None:
        raise NotFound("There is no message %(id)s.", id=message_id)
    attempts = (await session.execute(_ATTEMPTS, {"id": message_id})).mappings()
    history = [_attempt(attempt, language) for attempt in attempts]
    resolved = (await session.execute(_RESOLUTIONS, {"id": message_id})).mappings()
    resolutions = convert(resolved.all(), list[ResolutionOut])
    return convert(_fields(row, language) | {"history": history, "resolutions": resolutions}, MessageDetail)


async def messages_of(  # noqa: PLR0913 - one for each filter, and the page
    session: AsyncSession,
    mailing_id: int,
    *,
    cursor: int,
    limit: int,
    status: MessageStatus | None = None,
    delivery: Delivery | None = None,
    language: str = "en",
) -> Sequence[MessageOut]:
    """Return one row more than `limit`, if there is one."""
    statuses = [status.value] if status else [each.value for each in MessageStatus]
    page = {"mailing_id": mailing_id, "cursor": cursor, "count": limit + 1, "statuses": statuses}
    if delivery:
        statement = _PAGE_REPORTED if delivery in _STATES else _PAGE_AWAITED
        rows = await session.execute(statement, page | {"state": _STATES.get(delivery)})
    else:
        rows = await session.execute(_PAGE_SENDING if status is MessageStatus.sending else _PAGE, page)
    return [convert(_fields(row, language), MessageOut) for row in rows.mappings()]


async def message_to(session: AsyncSession, mailing_id: int, *, phone: str, language: str = "en") -> MessageOut | None:
    """Find the message by the client's present phone."""
    row = (await session.execute(_TO, {"mailing_id": mailing_id, "phone": phone})).mappings().first()
    return convert(_fields(row, language), MessageOut) if row else None


async def messages_of_client(
    session: AsyncSession, client_id: int, *, before: int, limit: int, language: str = "en"
) -> Sequence[MessageOut]:
    """Return one row more than `limit`, if there is one. `before` is the last id of the previous page."""
    page = {"client_id": client_id, "before": before, "count": limit + 1}
    rows = await session.execute(_OF_CLIENT, page)
    return [convert(_fields(row, language), MessageOut) for row in rows.mappings()]


async def counts_of_client(session: AsyncSession, client_id: int) -> Mapping[MessageStatus, int]:
    rows = await session.execute(_COUNTS_OF_CLIENT, {"client_id": client_id})
    return {MessageStatus(status): count for status, count in rows}


def _fields(row: RowMapping, language: str) -> dict[str, Any]:
    waiting, reason = row["waiting_reason"], stored_reason(row["reason_code"], row["reason_params"])
    return {
        **row,
        "waiting_for": WaitingFor(WaitReason(waiting), row["waiting_until"]) if waiting else None,
        "status_reason": words_of(reason, language) or None,
        "receipt": ReceiptOut(row["receipt"], row["receipt_code"], row["receipt_at"]) if row["receipt"] else None,
    }


def _attempt(row: RowMapping, language: str) -> AttemptOut:
    reason = stored_reason(row["reason_code"], row["reason_params"])
    return convert({**row, "reason": words_of(reason, language)}, AttemptOut)

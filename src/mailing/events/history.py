"""The history of a mailing, message or client in time order: one query over events, attempts, outcomes and receipts.

Each branch of the query starts at the cursor, in an index of its own, and reads at most a page. A client has few
messages and a message few attempts, so those are sorted. A mailing has millions of outcomes, so its history has the
attempts instead, and one event for all messages expired or cancelled at once. An outcome is in its message's history.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from msgspec import Struct, convert
from sqlalchemy import RowMapping, TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.rows import all_as
from mailing.reasons.codes import stored_reason, words_of

Subject = Literal["mailing_id", "message_id", "client_id"]

LAST = 2**63 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class HistoryEntry(Struct):
    """An event, an attempt, an outcome or a receipt. `detail` depends on `kind`; `request_id` is also in the answer and
    the log line of the request.
    """

    at: datetime
    kind: str
    by: str
    mailing_id: int | None
    message_id: int | None
    client_id: int | None
    request_id: str | None
    detail: dict[str, Any]


class HistoryCursor(Struct, frozen=True, order=True):
    """A position in a history. Within one microsecond the order is events, attempts, outcomes, receipts."""

    at: datetime = _EPOCH
    rank: int = 0
    id: int = 0
    number: int = 0

    @property
    def micros(self) -> int:
        return (self.at - _EPOCH) // timedelta(microseconds=1)

    @classmethod
    def of(cls, micros: int, rank: int, id_: int, number: int) -> "HistoryCursor":
        return cls(_EPOCH + timedelta(microseconds=micros), rank, id_, number)

    def before(self, rank: int) -> tuple[int, int]:
        """Return the id and number after which the rows of this rank continue, within the same microsecond."""
        if rank == self.rank:
            return self.id, self.number
        return (0, 0) if rank > self.rank else (LAST, 0)


class EventSummary(Struct, frozen=True):
    """An event without its ids and details. `kind` as in `record_event`."""

    at: datetime
    kind: str
    by: str


# Indexes, backwards: event_of_client; event_of_audience.
_NEWEST: Mapping[Literal["client_id", "mailing_id"], TextClause] = {
    "client_id": text("SELECT at, kind, actor AS by FROM event WHERE client_id = :id ORDER BY id DESC LIMIT :count"),
    "mailing_id": text("""
        SELECT at, kind, actor AS by FROM event WHERE mailing_id = :id AND message_id IS NULL
        ORDER BY at DESC, id DESC LIMIT :count
    """),
}


async def latest_events(
    session: AsyncSession, subject: Literal["client_id", "mailing_id"], id_: int, *, count: int
) -> list[EventSummary]:
    """List events of the subject as a whole, newest first, without those of single messages and calls."""
    return all_as(EventSummary, await session.execute(_NEWEST[subject], {"id": id_, "count": count}))


_EVENTS = """
    SELECT at, 0 AS rank, id, 0 AS number, kind, actor, mailing_id, message_id, client_id, request_id, detail
    FROM event WHERE {subject} AND (at, id) > (CAST(:at AS timestamptz), CAST(:event AS bigint))
    ORDER BY at, id LIMIT :count
"""
_ATTEMPTS = """
    SELECT a.started_at, 1, a.message_id, a.number, 'message.attempted', 'worker', a.mailing_id, a.message_id,
        CAST(NULL AS bigint), NULL, jsonb_strip_nulls(jsonb_build_object('number', a.number, 'outcome', a.outcome,
            'http_status', a.http_status, 'code', a.code, 'duration_ms', a.duration_ms,
            'reason_code', a.reason_code, 'reason_params', a.reason_params))
    FROM {subject}
        AND (a.started_at, a.message_id, a.number) > (CAST(:at AS timestamptz), CAST(:tried AS bigint), :number)
    ORDER BY a.started_at, a.message_id, a.number LIMIT :count
"""
_OUTCOMES = """
    SELECT finished_at, 2, id, 0, 'message.' || status, 'service', mailing_id, id, client_id, NULL,
        jsonb_strip_nulls(jsonb_build_object('reason_code', reason_code, 'reason_params', reason_params))
    FROM message WHERE {subject} AND finished_at IS NOT NULL
        AND (finished_at, id) > (CAST(:at AS timestamptz), CAST(:ended AS bigint))
    ORDER BY finished_at, id LIMIT :count
"""
_RECEIPTS = """
    SELECT r.received_at, 3, r.message_id, 0, 'receipt.' || (ARRAY['accepted', 'undelivered', 'delivered'])[r.state],
        'provider', r.mailing_id, r.message_id, CAST(NULL AS bigint), NULL,
        jsonb_strip_nulls(jsonb_build_object('code', r.code, 'at', r.at))
    FROM {subject} AND (r.received_at, r.message_id) > (CAST(:at AS timestamptz), CAST(:reported AS bigint))
    ORDER BY r.received_at, r.message_id LIMIT :count
"""
_GLOBAL = """
    mailing_id IS NULL AND message_id IS NULL AND client_id IS NULL
    AND split_part(kind, '.', 1) IN ('gateway', 'database')
    AND at >= ({since}) AND at <= ({until})
"""
_MESSAGE = "SELECT {} FROM message WHERE id = :id"
_MAILING = "SELECT {} FROM mailing WHERE id = :id"
_LAUNCH = "SELECT g.started_at FROM message m JOIN mailing g ON g.id = m.mailing_id WHERE m.id = :id"

# Indexes: event_of_mailing, attempt_of_mailing, event_of_all while it runs.
_OF_MAILING = (
    _EVENTS.format(subject="mailing_id = :id"),
    _EVENTS.format(
        subject=_GLOBAL.format(
            since=_MAILING.format("started_at"), until=_MAILING.format("coalesce(finished_at, ends_at)")
        )
    ),
    _ATTEMPTS.format(subject="attempt a WHERE a.mailing_id = :id"),
)
# Indexes: event_of_message, event_of_audience, event_of_client, event_of_all until its end; the primary keys.
_OF_MESSAGE = (
    _EVENTS.format(subject="message_id = :id"),
    _EVENTS.format(subject=f"mailing_id = ({_MESSAGE.format('mailing_id')}) AND message_id IS NULL"),
    _EVENTS.format(
        subject=f"client_id = ({_MESSAGE.format('client_id')}) AND mailing_id IS NULL AND message_id IS NULL"
    ),
    _EVENTS.format(subject=_GLOBAL.format(since=_LAUNCH, until=_MESSAGE.format("coalesce(finished_at, now())"))),
    _ATTEMPTS.format(subject="attempt a WHERE a.message_id = :id"),
    _OUTCOMES.format(subject="id = :id"),
    _RECEIPTS.format(subject="receipt r WHERE r.message_id = :id"),
)
# An import records one event for all its clients: a client belongs to the event of the transaction that created it.
_MADE_BY_IMPORT = """
    mailing_id IS NULL AND message_id IS NULL AND client_id IS NULL AND kind = 'clients.imported' AND at = coalesce(
        (SELECT created_at FROM client WHERE id = :id),
        (SELECT CAST(detail ->> 'created_at' AS timestamptz) FROM event
         WHERE client_id = :id AND kind = 'client.deleted' LIMIT 1))
"""

# OFFSET 0 keeps the planner, which expects many messages, from scanning all attempts.
_EACH_MESSAGE_S = """
    message m CROSS JOIN LATERAL (SELECT * FROM attempt WHERE message_id = m.id OFFSET 0) a WHERE m.client_id = :id
"""
_EACH_RECEIPT = """
    message m CROSS JOIN LATERAL (SELECT * FROM receipt WHERE message_id = m.id OFFSET 0) r WHERE m.client_id = :id
"""

# Indexes: event_of_client, event_of_all at one moment, message_once, the attempts' primary key.
_OF_CLIENT = (
    _EVENTS.format(subject="client_id = :id"),
    _EVENTS.format(subject=_MADE_BY_IMPORT),
    _ATTEMPTS.format(subject=_EACH_MESSAGE_S),
    _OUTCOMES.format(subject="client_id = :id"),
    _RECEIPTS.format(subject=_EACH_RECEIPT),
)


def _merge(branches: tuple[str, ...]) -> str:
    """Merge the branches. Messages of a test belong to the tested mailing, as everywhere."""
    merged = " UNION ALL ".join(f"({branch})" for branch in branches)
    return f"""
        SELECT s.at, s.rank, s.id, s.number, s.kind, s.actor AS by, coalesce(g.test_of_mailing_id,
            s.mailing_id) AS mailing_id,
            s.message_id, coalesce(s.client_id, m.client_id) AS client_id, s.request_id, s.detail
        FROM ({merged} ORDER BY at, rank, id, number LIMIT :count) s
        LEFT JOIN mailing g ON g.id = s.mailing_id LEFT JOIN message m ON m.id = s.message_id
        ORDER BY s.at, s.rank, s.id, s.number
    """  # noqa: S608 - composed from constants of this module


HISTORIES: Mapping[Subject, str] = {
    "mailing_id": _merge(_OF_MAILING),
    "message_id": _merge(_OF_MESSAGE),
    "client_id": _merge(_OF_CLIENT),
}


async def history(
    session: AsyncSession, subject: Subject, id_: int, *, after: HistoryCursor, limit: int, language: str = "en"
) -> list[tuple[HistoryCursor, HistoryEntry]]:
    """Return up to `limit` + 1 entries, oldest first, with the words for reasons in `language`; none for an unknown id.

    A transaction that began earlier and commits later may add entries before a cursor already read.
    """
    found = await session.execute(text(HISTORIES[subject]), page_values(id_, after=after, limit=limit))
    return [
        (HistoryCursor(row["at"], row["rank"], row["id"], row["number"]), _entry(row, language))
        for row in found.mappings()
    ]


def page_values(id_: int, *, after: HistoryCursor, limit: int) -> dict[str, Any]:
    (event, _), (tried, number), (ended, _), (reported, _) = (after.before(rank) for rank in range(4))
    page = {"id": id_, "count": limit + 1, "at": after.at}
    return page | {"event": event, "tried": tried, "number": number, "ended": ended, "reported": reported}


def _entry(row: RowMapping, language: str) -> HistoryEntry:
    return convert({**row, "detail": _in_words(row["detail"], language)}, HistoryEntry)


def _in_words(detail: dict[str, Any], language: str) -> dict[str, Any]:
    """Replace the parameters of a reason by its words."""
    params = detail.pop("reason_params", None)
    reason = stored_reason(detail.get("reason_code"), params)
    return detail | {"reason": words_of(reason, language)} if reason else detail

"""Rows that a report counts, and what the fixtures of the reports' tests are."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import text

from mailing.database.engine import Sessions, transaction
from mailing.reasons.codes import ReasonCode
from mailing.reports.jobs import Attempted
from mailing.settings import Settings

ReportRows = Callable[[], Awaitable[list[dict[str, Any]]]]


class Send(Protocol):
    """What a worker does each minute, at the time `now`, with the settings `reporting` or others."""

    async def __call__(self, now: datetime, settings: Settings | None = None) -> list[Attempted]: ...


CREATED = datetime(2000, 1, 1, tzinfo=UTC)


class Rows:
    """Writes rows as the product would leave them."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._clients = 0

    async def mailing(
        self, body: str = "Hello", *, status: str = "running", started_at: datetime = CREATED, deleted: bool = False
    ) -> int:
        sql = text("""
            INSERT INTO mailing (text, starts_at, ends_at, status, started_at, deleted_at, released_revision,
                released_at, released_by)
            VALUES (:body, :at, :ends, :status, :started_at, :deleted_at, 1, :at, 'tests') RETURNING id""")
        launched = None if status == "scheduled" else started_at
        deleted_at = CREATED if deleted else None
        row = {"body": body, "at": CREATED, "ends": CREATED + timedelta(days=1), "status": status}
        async with transaction(self._sessions) as session:
            found = await session.execute(sql, {**row, "started_at": launched, "deleted_at": deleted_at})
            mailing_id: int = found.scalar_one()
        return mailing_id

    async def messages(
        self,
        mailing_id: int,
        status: str,
        number: int = 1,
        *,
        at: datetime | None = None,
        reason: ReasonCode | None = None,
        code: int = 0,
    ) -> None:
        """`at` is when they ended; None for those that have not."""
        sql = text("""
            INSERT INTO message (mailing_id, client_id, status, counted_attempts, claim_no, maybe_accepted, due_at,
                closes_at,
                                 lease_until, phone, finished_at, reason_code, reason_params)
            SELECT :mailing_id, client_id, :status, 1, 1, :status = 'unknown', :due, :due,
                   CASE :status WHEN 'sending' THEN CAST(:due AS timestamptz) END, '79161234567', :at, :reason,
                   jsonb_build_object('code', CAST(:code AS bigint))
            FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS client_id""")
        first, self._clients = self._clients + 1, self._clients + number
        row = {"mailing_id": mailing_id, "status": status, "due": CREATED, "at": at, "reason": reason, "code": code}
        async with transaction(self._sessions) as session:
            await session.execute(sql, {**row, "first": first, "last": self._clients})

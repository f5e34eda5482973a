"""Reports to a mail server in this process, and rows that they count."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from mailing.reasons.codes import ReasonCode
from mailing.reports.jobs import Attempted, send_next
from mailing.settings import Settings
from support.database import Database
from support.mail_server import PostOffice

CREATED = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Reports:
    """What a worker with these settings reports to this mail server."""

    db: Database
    settings: Settings
    office: PostOffice

    async def send(self, now: datetime, settings: Settings | None = None) -> list[Attempted]:
        """Do what a worker does each minute, at the time `now`, with these settings or others."""
        tried = []
        while found := await send_next(self.db.sessions, settings or self.settings, now=now):
            tried.append(found)
        return tried

    async def rows(self) -> list[dict[str, Any]]:
        return [row._asdict() for row in await self.db.run("SELECT * FROM report ORDER BY day")]


class Rows:
    """Writes rows as the product would leave them."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._clients = 0

    async def mailing(
        self, body: str = "Hello", *, status: str = "running", started_at: datetime = CREATED, deleted: bool = False
    ) -> int:
        sql = """
            INSERT INTO mailing (text, starts_at, ends_at, status, started_at, deleted_at, released_revision,
                released_at, released_by)
            VALUES (:body, :at, :ends, :status, :started_at, :deleted_at, 1, :at, 'tests') RETURNING id"""
        launched = None if status == "scheduled" else started_at
        deleted_at = CREATED if deleted else None
        row = {"body": body, "at": CREATED, "ends": CREATED + timedelta(days=1), "status": status}
        return int(await self._db.value(sql, **row, started_at=launched, deleted_at=deleted_at))

    async def messages(
        self,
        mailing_id: int,
        status: str,
        number: int = 1,
        *,
        at: datetime | Sequence[datetime] | None = None,
        reason: ReasonCode | None = None,
        code: int = 0,
    ) -> None:
        """`at` is when they ended, all of them or each; None for those that have not."""
        sql = """
            INSERT INTO message (mailing_id, client_id, status, counted_attempts, claim_no, maybe_accepted, due_at,
                closes_at, lease_until, phone, finished_at, reason_code, reason_params)
            SELECT :mailing_id, CAST(:clients AS bigint) + n, :status, 1, 1, :status = 'unknown', :due, :due,
                   CASE :status WHEN 'sending' THEN CAST(:due AS timestamptz) END, '79161234567', at, :reason,
                   jsonb_build_object('code', CAST(:code AS bigint))
            FROM unnest(CAST(:times AS timestamptz[])) WITH ORDINALITY AS ended (at, n)"""
        times = at if isinstance(at, Sequence) else [at] * number
        row = {"mailing_id": mailing_id, "status": status, "due": CREATED, "reason": reason, "code": code}
        await self._db.run(sql, **row, times=times, clients=self._clients)
        self._clients += len(times)

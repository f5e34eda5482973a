"""Collects the evidence of a fault run: the gateway's ledger, the rows, and the figures of the API and the report."""

import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx
from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from chaos.checker.facts import (
    FINAL,
    STATUSES,
    Action,
    Attempt,
    Client,
    Evidence,
    History,
    Mailing,
    Message,
    Receipt,
    Terms,
    Told,
)
from chaos.checker.versions import traits_of
from chaos.gateway.ledger import calls_in
from mailing.database.engine import Sessions
from mailing.mailings.window import LocalWindow
from mailing.reports.repository import figures_of, snapshot
from mailing.reports.schedule import Day

Row = TypeVar("Row", bound=Struct)
# figures_of a day so long that everything ended within it
ALWAYS = Day(date(2000, 1, 1), "UTC", datetime(2000, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC))


async def collect(sessions: Sessions, api: httpx.AsyncClient, ledger: Path, history: History) -> Evidence:
    """Call when nothing moves any more: the sources are read one after the other. `api` is at `…/mailing/api`."""
    told = await _told_by_statistics(api)
    async with snapshot(sessions) as session:
        # between two statements 100,000 rows become objects: seconds on a busy machine
        await session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        return Evidence(
            calls=calls_in(ledger),
            messages=await _rows(session, _MESSAGES, Message),
            attempts=await _rows(session, _ATTEMPTS, Attempt),
            mailings=[_mailing(row) for row in (await session.execute(text(_MAILINGS))).mappings()],
            clients=await _clients(session, history.actions),
            taken_at=time.time(),
            told=told + await _told_by_report(session),
            receipts=await _rows(session, _RECEIPTS, Receipt),
            resolutions=frozenset(await session.scalars(text(_RESOLVED))),
            **asdict(history),
        )


# The columns are named as the fields.
_MESSAGES = """
    SELECT id, mailing_id, client_id, status, claim_no, maybe_accepted,
        CAST(extract(epoch FROM finished_at) AS float8) AS finished_at FROM message"""
_ATTEMPTS = """
    SELECT message_id, number, CAST(extract(epoch FROM started_at) AS float8) AS started_at,
        CAST(duration_ms / 1000.0 AS float8) AS duration_s, outcome, http_status FROM attempt"""
_RECEIPTS = "SELECT message_id, mailing_id, state FROM receipt"
_CLIENTS = "SELECT id, phone, operator_code, tag, timezone, opted_out, created_at FROM client"
_MAILINGS = """
    SELECT g.*, (
            SELECT max(e.at) FROM event e WHERE e.mailing_id = g.id AND e.kind = 'mailing.planned'
            AND (e.detail->>'revision')::int = g.plan_revision
        ) AS planned_at,
        ARRAY(SELECT t.text FROM mailing_text t WHERE t.mailing_id = g.id) AS texts FROM mailing g"""
_RESOLVED = "SELECT message_id FROM event WHERE kind = 'message.resolved' AND actor <> 'receipt'"


async def _rows(session: AsyncSession, statement: str, kind: type[Row]) -> list[Row]:
    result = await session.execute(text(statement))
    names = tuple(result.keys())
    return [kind(**dict(zip(names, row, strict=True))) for row in result]


async def _clients(session: AsyncSession, actions: Sequence[Action]) -> list[Client]:
    """Those that are there, and those whom somebody deleted."""
    rows = (await session.execute(text(_CLIENTS))).mappings()
    deleted = {action.client_id: action for action in actions if action.kind == "deleted" and action.client_id}
    return [
        *(Client(row["id"], traits_of(dict(row)), row["created_at"].timestamp()) for row in rows),
        *(Client(client, traits_of(action.details["before"])) for client, action in deleted.items()),
    ]


def _mailing(row: Any) -> Mailing:  # noqa: ANN401 - a row with every column
    window = None if row["window_start"] is None else LocalWindow(row["window_start"], row["window_end"])
    return Mailing(
        id=row["id"],
        status=row["status"],
        terms=Terms(
            starts_at=row["starts_at"].timestamp(),
            ends_at=row["ends_at"].timestamp(),
            window=window,
            tags=row["tags"],
            operator_codes=row["operator_codes"],
        ),
        texts=frozenset(row["texts"]),
        audience_max_client_id=row["audience_max_client_id"] or 0,
        created_at=row["created_at"].timestamp(),
        planned_at=row["planned_at"].timestamp() if row["planned_at"] else None,
        is_test=row["test_of_mailing_id"] is not None,
    )


async def _told_by_statistics(api: httpx.AsyncClient) -> list[Told]:
    """Return no deliveries where no receipts are expected."""
    told = []
    cursor: dict[str, str] = {}
    while True:
        page = (await api.get("/statistics/", params={"limit": "500"} | cursor)).raise_for_status().json()
        if not cursor:
            told.append(Told("GET /statistics/", None, _counts(page["messages"])))
        for line in page["items"]:
            mailing_id = line["mailing_id"]
            told.append(Told("a line of GET /statistics/", mailing_id, _counts(line)))
            alone = (await api.get(f"/statistics/{mailing_id}/", params={"limit": 1})).raise_for_status().json()
            told.append(Told(f"GET /statistics/{mailing_id}/", mailing_id, _counts(alone["counts"])))
            if line.get("delivery"):
                told.append(Told("a line of GET /statistics/", mailing_id, line["delivery"]))
        if page["next_cursor"] is None:
            return told
        cursor = {"cursor": page["next_cursor"]}


async def _told_by_report(session: AsyncSession) -> list[Told]:
    """Return the counters, and what ended: over all time that is every row in a final state."""
    figures = await figures_of(session, ALWAYS, taken_at=datetime.now(UTC))
    told = [Told("the report", None, _counts(asdict(figures.totals)))]
    for mailing in figures.mailings:
        told.append(Told("the report", mailing.id, _counts(asdict(mailing.totals))))
        ended = asdict(mailing.ended)
        told.append(Told("the report's day", mailing.id, {name: ended[name] for name in FINAL}))
    return told


def _counts(members: dict[str, Any]) -> dict[str, int]:
    return {name: members[name] for name in STATUSES | {"planned"}}

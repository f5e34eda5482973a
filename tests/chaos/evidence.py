"""Reads the gateway's ledger, the database and the API into `Evidence`. Changes nothing."""

from collections.abc import Iterable, Sequence
from datetime import datetime, time
from math import inf
from pathlib import Path
from typing import Any

import httpx
import msgspec
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chaos.facts import Action, Attempt, Call, Client, Counters, Evidence, Kill, Kind, Mailing, Message, Terms
from mailing.db import Sessions, driver
from mailing.mailings.window import LocalWindow
from mailing.messages.repository import LEASE_S
from mailing.reports.figures import Figures
from mailing.reports.repository import figures_of, snapshot
from mailing.reports.schedule import day_of
from mailing.zones import zone_named

PAGE = 500


async def clients_now(sessions: Sessions) -> list[Client]:
    """To be read before the first mailing is made."""
    async with snapshot(sessions) as session:
        rows = await _fetch(
            session, "SELECT id, phone, operator_code, timezone, tag, opted_out FROM client ORDER BY id"
        )
    return [Client(**row) for row in rows]


async def evidence_of(
    sessions: Sessions,
    api: httpx.AsyncClient,
    *,
    ledger: Path,
    clients: Sequence[Client],
    actions: Sequence[Action],
    kills: Sequence[Kill] = (),
) -> Evidence:
    """Ask when all is quiet: rows, counters and report are read one after the other."""
    async with snapshot(sessions) as session:
        taken_at = (await _fetch(session, "SELECT extract(epoch FROM now())::float8 AS at"))[0]["at"]
        messages = [Message(**row) for row in await _fetch(session, _MESSAGES)]
        attempts = [Attempt(**row) for row in await _fetch(session, _ATTEMPTS)]
        mailings = [_mailing(row, actions) for row in await _fetch(session, _MAILINGS)]
        resolved = [_resolved(row) for row in await _fetch(session, _RESOLVED)]
        counters = await _report(session, taken_at)
    return Evidence(
        taken_at=taken_at,
        calls=calls_of(ledger),
        messages=messages,
        attempts=attempts,
        mailings=mailings,
        clients=[*clients, *_changed_clients(actions)],
        actions=[*(action for action in actions if action.kind is not Kind.resolved), *resolved],
        counters=counters + await _statistics(api),
        kills=list(kills),
        lease_s=LEASE_S,
    )


class _Entry(Struct):
    """One line of the ledger."""

    n: int
    event: str
    at: float
    id: int = 0
    phone: int = 0
    text: str = ""
    how: str | None = None


def calls_of(ledger: Path) -> list[Call]:
    """The last line may be cut by a kill. Numbers begin anew whenever the gateway does.

    ValueError for any other line that can't be read: evidence isn't left out in silence.
    """
    calls: list[Call] = []
    open_calls: dict[int, Call] = {}
    decoder = msgspec.json.Decoder(_Entry)
    lines = ledger.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], 1):
        try:
            entry = decoder.decode(line)
        except msgspec.DecodeError:
            raise ValueError(f"line {number} of the ledger {ledger.name} can't be read") from None
        match entry.event:
            case "began":
                call = Call(id=entry.id, phone=str(entry.phone), text=entry.text, began_at=entry.at)
                open_calls[entry.n] = call
                calls.append(call)
            case "accepted":
                open_calls[entry.n].accepted_at = entry.at
            case "ended":
                call = open_calls.pop(entry.n)
                call.ended_at, call.how = entry.at, entry.how
            case "broken":
                pass  # it never became whole, so nobody knows what it was
            case _:
                raise ValueError(f"line {number} of the ledger {ledger.name} tells of an unknown event")
    return calls


_MESSAGES = """
    SELECT id, mailing_id, client_id, status, attempt_no, ambiguous,
        extract(epoch FROM finished_at)::float8 AS finished_at
    FROM message ORDER BY id
"""
_ATTEMPTS = """
    SELECT message_id, number, extract(epoch FROM started_at)::float8 AS started_at, outcome,
        duration_ms / 1000.0::float8 AS duration_s, http_status
    FROM attempt
"""
_MAILINGS = """
    SELECT g.id, g.status, g.planned_revision = g.revision AS planned, coalesce(g.audience_upto, 0) AS audience_upto,
        g.starts_at, g.ends_at, g.tags, g.operator_codes, g.window_start, g.window_end,
        g.test_of IS NOT NULL AS is_test, array(SELECT text FROM mailing_text WHERE mailing_id = g.id) AS texts
    FROM mailing g ORDER BY g.id
"""
_RESOLVED = """
    SELECT extract(epoch FROM at)::float8 AS at, message_id, detail ->> 'as' AS verdict
    FROM event WHERE kind = 'message.resolved' ORDER BY id
"""


async def _fetch(session: AsyncSession, sql: str) -> list[dict[str, Any]]:
    connection = await driver(session)
    return [dict(row) for row in await connection.fetch(sql)]


def _resolved(row: dict[str, Any]) -> Action:
    details = {"as": row["verdict"]}
    return Action(at_answered=row["at"], kind=Kind.resolved, message_id=row["message_id"], details=details)


def _mailing(row: dict[str, Any], actions: Sequence[Action]) -> Mailing:
    """Its terms are what the API had answered; as they stand now where it was never edited."""
    told = [each for each in _versions(actions) if each.mailing_id == row["id"]]
    if told and told[0].kind is not Kind.created:
        raise ValueError(f"mailing {row['id']} was edited, and the actions don't tell how it was created")
    return Mailing(
        id=row["id"],
        status=row["status"],
        planned=row["planned"],
        audience_upto=row["audience_upto"],
        terms=[_terms_told(action) for action in told] or [_terms_stored(row)],
        texts=frozenset(row["texts"]),
        is_test=row["is_test"],
    )


def _versions(actions: Iterable[Action]) -> list[Action]:
    told = [action for action in actions if action.kind in {Kind.created, Kind.edited}]
    return sorted(told, key=lambda action: action.at_answered)


def _terms_stored(row: dict[str, Any]) -> Terms:
    start, end = row["window_start"], row["window_end"]
    return Terms(
        starts_at=row["starts_at"].timestamp(),
        ends_at=row["ends_at"].timestamp(),
        tags=frozenset(row["tags"]),
        operator_codes=frozenset(row["operator_codes"]),
        window=LocalWindow(start, end) if start is not None else None,
    )


def _terms_told(action: Action) -> Terms:
    told, hours = action.details, action.details["local_window"]
    return Terms(
        starts_at=datetime.fromisoformat(told["starts_at"]).timestamp(),
        ends_at=datetime.fromisoformat(told["ends_at"]).timestamp(),
        tags=frozenset(told["filter"]["tags"]),
        operator_codes=frozenset(told["filter"]["operator_codes"]),
        window=LocalWindow(time.fromisoformat(hours["start"]), time.fromisoformat(hours["end"])) if hours else None,
        asked_at=-inf if action.kind is Kind.created else action.asked,
        answered_at=action.at_answered,
    )


def _changed_clients(actions: Sequence[Action]) -> list[Client]:
    fields = ("id", "phone", "operator_code", "timezone", "tag", "opted_out")
    return [
        Client(**{name: action.details[name] for name in fields}, asked_at=action.asked, answered_at=action.at_answered)
        for action in _versions(actions)
        if action.client_id is not None
    ]


async def _statistics(api: httpx.AsyncClient) -> list[Counters]:
    """Every page of the overall statistics, and each mailing's own."""
    found: list[Counters] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await _get(api, "/statistics/", limit=PAGE, **({"cursor": cursor} if cursor else {}))
        if not cursor:
            found.append(Counters(source="GET /statistics/", counts=page["messages"]))
        for line in page["items"]:
            counts = {name: line[name] for name in page["messages"]}
            found.append(Counters(source="GET /statistics/", counts=counts, mailing_id=line["mailing_id"]))
            one = await _get(api, f"/statistics/{line['mailing_id']}/", limit=1)
            found.append(Counters(source="GET /statistics/{id}/", counts=one["counts"], mailing_id=line["mailing_id"]))
        cursor = page["next_cursor"]
    return found


async def _get(api: httpx.AsyncClient, path: str, **params: str | int) -> dict[str, Any]:
    answer = (await api.get(path, params=params)).raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


async def _report(session: AsyncSession, taken_at: float) -> list[Counters]:
    """What the report of this day would say now."""
    zone = zone_named("UTC")
    now = datetime.fromtimestamp(taken_at, zone)
    return list(_figures(await figures_of(session, day_of(now.date(), zone), taken_at=now)))


def _figures(figures: Figures) -> Iterable[Counters]:
    day = (figures.day.starts.timestamp(), figures.day.ends.timestamp())
    yield Counters(source="the report", counts=msgspec.structs.asdict(figures.standing))
    for mailing in figures.mailings:
        standing, ended = msgspec.structs.asdict(mailing.standing), msgspec.structs.asdict(mailing.ended)
        yield Counters(source="the report", counts=standing, mailing_id=mailing.id)
        yield Counters(source="the report of the day", counts=ended, mailing_id=mailing.id, within=day)

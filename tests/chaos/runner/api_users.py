"""What people ask of the API in a run. Whatever it answered with success is remembered, with both moments."""

import asyncio
import csv
import io
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final
from uuid import uuid4

import asyncpg
import httpx
from msgspec.structs import replace

from chaos.checker.deeds import Deed, Subject, act
from chaos.checker.facts import Action
from chaos.runner.environment import Site
from mailing.database.connections import DRIVER_ERRORS

PATIENCE_S: Final = 120
AGAIN_S: Final = 0.2
TRAITS: Final = "id, phone, operator_code, tag, timezone, opted_out"


class People:
    """They ask again until the database is back, and a POST under one key."""

    def __init__(self, here: Site, api: httpx.AsyncClient, *, at_once: int) -> None:
        """`at_once`: fewer than the API has connections to the database, so that those who only look are answered."""
        self.actions: list[Action] = []
        self._here = here
        self._api = api
        self._turns = asyncio.Semaphore(at_once)
        self._imports = asyncio.Semaphore(1)

    async def make_mailing(self, body: Callable[[], dict[str, Any]]) -> int:
        """Anew where its end had passed before the database was there to hear of it."""
        async with self._turns:
            while (answer := await self._insist("POST", "/mailings/", json=body())).status_code == 400:
                if "ends_at" not in answer.text:
                    break
        created: int = answer.raise_for_status().json()["id"]
        return created

    async def do(self, deed: Deed, subject: Subject) -> None:
        async with self._turns:
            if action := await act(self._insist, deed, subject):
                self.actions.append(action)

    async def import_clients(self, zones: dict[int, str], new: Sequence[Sequence[str]]) -> None:
        """One file: clients by id, each with another time zone, and rows of new ones, as `parts.rows` has them.

        One at a time: a key may import two, and a file whose answer was cut off may still be at it.
        """
        async with self._imports, self._turns:
            await self._import(zones, new)

    async def is_planned(self, mailings: Sequence[int]) -> bool:
        """Every one, up to its newest edit, or it is over."""
        statement = """
            SELECT count(*) = 0 FROM mailing
            WHERE id = ANY($1::bigint[]) AND planned_revision < plan_revision
              AND status IN ('scheduled', 'running', 'paused')"""
        return bool((await self._rows(statement, list(mailings)))[0][0])

    async def see_sent(self, mailing: int, *, within_s: float) -> None:
        """Return a second after the first messages were claimed, or when it takes too long."""
        claimed = "SELECT 1 FROM message WHERE mailing_id = $1 AND claim_no > 0 LIMIT 1"
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while True:
                    await asyncio.sleep(0.1)
                    if await self._rows(claimed, mailing):
                        break
                await asyncio.sleep(1)

    async def _import(self, zones: dict[int, str], new: Sequence[Sequence[str]]) -> None:
        known, at_asked = await self._clients(sorted(zones))
        moved = [(each["phone"], each["operator_code"], each["tag"], zones[each["id"]]) for each in known]
        headers = {"Content-Type": "text/csv"}
        answer = await self._insist("POST", "/clients/import", content=_csv([*moved, *new]), headers=headers)
        answer.raise_for_status()
        imported = Action(kind="imported", at_asked=at_asked, at_answered=time.time())
        self.actions.append(imported)
        for before in known:
            details = {"before": before, "after": before | {"timezone": zones[before["id"]]}}
            self.actions.append(replace(imported, kind="edited", client_id=before["id"], details=details))

    async def _clients(self, ids: Sequence[int]) -> tuple[list[dict[str, Any]], float]:
        """Return also when the database looked: what was answered before is in it, what is asked for later is not."""
        looked = "extract(epoch FROM statement_timestamp())::float8 AS looked_at"
        statement = f"SELECT {TRAITS}, {looked} FROM client WHERE id = ANY($1::bigint[]) ORDER BY id"
        known = [dict(row) for row in await self._rows(statement, ids)]
        looked_at = [each.pop("looked_at") for each in known]
        return known, looked_at[0] if looked_at else time.time()

    async def _rows(self, statement: str, *values: object) -> list[asyncpg.Record]:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    async with self._here.database.connection() as connection:
                        rows: list[asyncpg.Record] = await connection.fetch(statement, *values)
                        return rows
                except DRIVER_ERRORS:
                    await asyncio.sleep(AGAIN_S)

    async def _insist(self, method: str, path: str, **content: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        """Again until the database is back, or there is a place for what takes long. An answer that was lost is given
        again, and nothing is made twice.
        """
        headers = content.pop("headers", {}) | ({"Idempotency-Key": str(uuid4())} if method == "POST" else {})
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    answer = await self._api.request(method, path, headers=headers, **content)
                except httpx.TransportError:
                    await asyncio.sleep(AGAIN_S)
                    continue
                if answer.status_code < 500 and answer.status_code != 429 and not _is_in_progress(answer):
                    return answer
                await asyncio.sleep(AGAIN_S)


def _is_in_progress(answer: httpx.Response) -> bool:
    """Return whether an earlier request with the same key, whose answer was lost, still runs."""
    return answer.status_code == 409 and "is in progress" in answer.text


def _csv(rows: Sequence[Sequence[object]]) -> bytes:
    file = io.StringIO()
    csv.writer(file).writerows([("phone", "operator_code", "tag", "timezone"), *rows])
    return file.getvalue().encode()

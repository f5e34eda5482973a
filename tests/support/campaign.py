"""A mailing's whole life: its client on the API's side, the sandbox gateway's ledger, and a worker in this process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import httpx
from msgspec.structs import replace

from mailing.gateway.sandbox.app import running
from mailing.gateway.sandbox.behaviour import Behaviour
from mailing.settings import Settings
from mailing.worker import run_worker
from support.answers import Json, json_of
from support.api import Api
from support.database import Database
from support.plain_http import NO_TLS
from support.processes import until
from support.roles import url_as

PATIENCE_S = 60.0  # a worker process may take half of it to start on a busy machine
# What the database holds when that was not enough
STATE = """
    SELECT jsonb_build_object(
        'mailing', (SELECT jsonb_agg(jsonb_build_array(id, status, plan_revision, planned_revision) ORDER BY id)
                    FROM mailing),
        'message', (SELECT jsonb_object_agg(status, found) FROM (
                        SELECT status, count(*) AS found FROM message GROUP BY status) AS m),
        'job', (SELECT jsonb_agg(jsonb_build_array(task_name, status, scheduled_at, args)) FROM (
                    SELECT * FROM procrastinate_jobs ORDER BY id LIMIT 20) AS j),
        'gateway', (SELECT to_jsonb(w) FROM gateway w),
        'connection', (SELECT jsonb_object_agg(application_name, found) FROM (
                           SELECT application_name, count(*) AS found FROM pg_stat_activity GROUP BY 1) AS c))"""


@dataclass(frozen=True)
class Sandbox:
    url: str
    http: httpx.AsyncClient

    async def behave(self, **behaviour: object) -> None:
        (await self.http.put("/behaviour", json=behaviour)).raise_for_status()

    async def ledger(self) -> list[Json]:
        """Return what the gateway accepted, in order; a repeated id is listed once, with its repeats."""
        items: list[Json] = []
        while True:
            after = items[-1]["seq"] if items else 0
            page = (await self.http.get("/ledger", params={"limit": 1000, "after": after})).json()["items"]
            if not page:
                return items
            items += page

    async def summary(self) -> Json:
        return json_of(await self.http.get("/ledger/summary"))


@asynccontextmanager
async def running_sandbox() -> AsyncIterator[Sandbox]:
    async with (
        running("127.0.0.1", 0, Behaviour()) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", verify=NO_TLS, trust_env=False) as http,
    ):
        yield Sandbox(f"http://127.0.0.1:{port}/v1", http)


@dataclass(frozen=True)
class ApiCaller:
    """What the tests say to the API, and see in the database."""

    api: Api
    db: Database

    async def clients(self, count: int, *, timezone: str = "UTC", tag: str | None = None) -> list[int]:
        return await self.db.add_clients(count, timezone=timezone, tag=tag)

    async def mailing(self, *, lasts_s: float = 3600, starts_in_s: float = -1, **fields: object) -> int:
        now = datetime.now(UTC)
        body = {
            "text": "hello",
            "starts_at": (now + timedelta(seconds=starts_in_s)).isoformat(),
            "ends_at": (now + timedelta(seconds=lasts_s)).isoformat(),
        }
        return int(json_of(await self.api.post("/mailings/", json=body | fields), 201)["id"])

    async def statistics(self, mailing_id: int, **params: str | int) -> Json:
        return json_of(await self.api.get(f"/statistics/{mailing_id}/", params=params))

    async def counts(self, mailing_id: int) -> dict[str, int]:
        """Only those that are not zero."""
        counted = (await self.statistics(mailing_id))["counts"]
        return {name: count for name, count in counted.items() if count}

    async def reaches(self, mailing_id: int, **least: int) -> None:
        """Wait until each of these counts is at least so high."""
        await self._until_counted(mailing_id, *(f"{name} >= {count}" for name, count in least.items()))

    async def comes_to(self, mailing_id: int, **counts: int) -> None:
        """Wait until each of these counts is that."""
        await self._until_counted(mailing_id, *(f"{name} = {count}" for name, count in counts.items()))

    async def shows(self, mailing_id: int, **counts: int) -> None:
        """Wait until these are the counts that are not zero."""

        async def holds() -> bool:
            return await self.counts(mailing_id) == counts

        await self.until(holds)

    async def messages(self, mailing_id: int) -> list[Json]:
        return list((await self.statistics(mailing_id, limit=500))["messages"]["items"])

    async def finished(self, mailing_id: int) -> dict[str, int]:
        await self.until_found("SELECT 1 FROM mailing WHERE id = :id AND status = 'finished'", id=mailing_id)
        return await self.counts(mailing_id)

    async def until(self, holds: Callable[[], object]) -> None:
        try:
            await until(holds, seconds=PATIENCE_S, every_s=0.05)
        except AssertionError as late:
            late.add_note(str(await self.db.value(STATE)))
            raise

    async def until_found(self, sql: str, **values: object) -> None:
        """Wait until the statement returns a row."""
        await self.until(lambda: self.db.run(sql, **values))

    async def _until_counted(self, mailing_id: int, *conditions: str) -> None:
        counted = f"SELECT 1 FROM mailing_counts WHERE mailing_id = :id AND {' AND '.join(conditions)}"
        await self.until_found(counted, id=mailing_id)


@dataclass(frozen=True)
class Campaign(ApiCaller):
    """With a worker in this process whenever a test wants one, and the sandbox for a gateway."""

    settings: Settings
    sandbox: Sandbox

    def working(self, **changes: Any) -> AbstractAsyncContextManager[None]:  # noqa: ANN401 - fields of Settings
        return working(replace(self.settings, **changes))


WorkerOf = Callable[[Settings], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[None]:
    """Run a worker with its own database role while the block lasts; stop it as SIGTERM does.

    It sweeps every second, because many tests wait for a sweep.
    """
    stop = asyncio.Event()
    restricted = replace(settings, database_url=url_as("mailing_worker", str(settings.database_url)))
    with patch("mailing.worker.UPKEEP_CRON", "* * * * * *"):
        worker = asyncio.create_task(run_worker(restricted, stop))
        try:
            yield
        finally:
            stop.set()
            await worker

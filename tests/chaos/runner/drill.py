"""A site with due messages, and what a drill asks of it."""

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
from msgspec.structs import replace

from chaos.runner.environment import KEY, Site, site, start_workers
from chaos.runner.load import Latencies, load
from chaos.runner.timeline import Trial
from support.processes import until

PATHS: Final = ["/mailing/api/statistics/", "/mailing/api/mailings/", "/mailing/api/clients/"]
API_RATE: Final = 40.0


class Drill:
    def __init__(self, here: Site, api: httpx.AsyncClient) -> None:
        self.here = here
        self.api = api

    async def clients(self, count: int, *, tag: str) -> None:
        async with self.here.database.connection() as connection:
            await connection.execute(
                """INSERT INTO client (phone, operator_code, tag, timezone)
                   SELECT '79' || lpad((n + (SELECT count(*) FROM client))::text, 9, '0'), '900', $2, 'UTC'
                   FROM generate_series(1, $1::int) n""",
                count,
                tag,
                timeout=600,
            )
            await connection.execute("ANALYZE client", timeout=600)

    async def mailing(self, *, tag: str, lasts_s: float = 10_800) -> int:
        now = datetime.now(UTC)
        ends_at = now + timedelta(seconds=lasts_s)
        body = {"text": "drill", "starts_at": now.isoformat(), "ends_at": ends_at.isoformat()}
        answer = await self.api.post("/mailings/", json=body | {"filter": {"tags": [tag]}})
        return int(answer.raise_for_status().json()["id"])

    async def counts(self, mailing: int) -> dict[str, int]:
        answer = await self.api.get(f"/statistics/{mailing}/", params={"limit": 1})
        found: dict[str, int] = answer.raise_for_status().json()["counts"]
        return found

    async def post(self, path: str) -> dict[str, Any]:
        answered: dict[str, Any] = (await self.api.post(path)).raise_for_status().json()
        return answered

    async def until(self, holds: Callable[[], Awaitable[bool]], *, within_s: float = 300) -> float:
        """Return how many seconds it took."""
        return await until(holds, seconds=within_s, every_s=0.1)

    async def sent(self, mailing: int, least: int) -> bool:
        return (await self.counts(mailing))["sent"] >= least

    async def load_api(self, seconds: float) -> Latencies:
        return await load(self.here.url, KEY, PATHS, rate=API_RATE, seconds=seconds)

    async def holds(self, query: str) -> bool:
        return bool(await self.value(query))

    async def value(self, query: str) -> Any:  # noqa: ANN401 - a column
        async with self.here.database.connection() as connection:
            return await connection.fetchval(query)


@asynccontextmanager
async def drilling(directory: Path, trial: Trial, **settings: float) -> AsyncIterator[Drill]:
    (directory / trial.name).mkdir(parents=True)
    async with site(directory / trial.name, trial, seed=1, fsync=False) as plain:
        here = dataclasses.replace(plain, settings=replace(plain.settings, **settings))
        await here.witness.behave(mix={}, latency_s=trial.latency_s)
        async with here.api() as api:
            drill = Drill(here, api)
            await drill.clients(trial.messages, tag="drill")
            start_workers(here)
            yield drill

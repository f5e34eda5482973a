"""All parts of a run, started and stopped together: database, gateway, mail server, API, workers."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from msgspec.structs import replace

from chaos.gateway.process import MIX, Witness, witness
from chaos.runner.postgres import Database, database
from chaos.runner.supervisor import Processes, executed, forked, supervising
from chaos.runner.timeline import Trial
from mailing.process.ports import free_port
from mailing.settings import Settings
from support.mail_server import PostOffice, open_post_office
from support.plain_http import NO_TLS
from support.processes import until_ready
from support.proxy import Proxy

KEY: Final = "a-key-for-the-fault-run"
TOKEN: Final = "a-token-for-the-fault-run"


@dataclass(frozen=True)
class Site:
    """`proxied` goes through the proxy to the database: it is the first worker's."""

    directory: Path
    database: Database
    proxy: Proxy
    witness: Witness
    post_office: PostOffice
    processes: Processes
    settings: Settings
    workers: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    def api(self) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {KEY}"}
        return httpx.AsyncClient(
            base_url=f"{self.url}/mailing/api", headers=headers, timeout=30, verify=NO_TLS, trust_env=False
        )

    @property
    def taking_receipts(self) -> Settings:
        """The API's settings. It takes receipts in Kannel's way; the workers call the gateway by another contract."""
        return replace(self.settings, gateway_provider="kannel", public_url=self.url)

    @property
    def reporting(self) -> Settings:
        """The workers have no recipients, so that the report is sent when the run says."""
        return replace(self.settings, report_to="reader@example.org", smtp_port=self.post_office.port)


@asynccontextmanager
async def site(
    directory: Path, trial: Trial, *, seed: int, fsync: bool = False, existing: Database | None = None
) -> AsyncIterator[Site]:
    """`existing`: a database that the caller starts and stops."""
    async with AsyncExitStack() as parts:
        own = await parts.enter_async_context(nullcontext(existing) if existing else database(fsync=fsync))
        proxy = Proxy(own.url)
        await proxy.start()
        parts.push_async_callback(proxy.stop)
        gateway = await parts.enter_async_context(witness(directory, seed=seed))
        await gateway.behave(mix=MIX, latency_s=trial.latency_s, recognises_ids=trial.recognises_ids)
        office = await parts.enter_async_context(open_post_office())
        running = await parts.enter_async_context(supervising(directory, forked if trial.is_quick else executed))
        settings = _settings(own.url, gateway.url, trial)
        workers = [f"worker-{number + 1}" for number in range(trial.workers)]
        here = Site(directory, own, proxy, gateway, office, running, settings, workers)
        running.start("api", ["api"], here.taking_receipts)
        await until_ready(here.url)
        yield here


def start_workers(here: Site) -> None:
    for number, name in enumerate(here.workers):
        way = replace(here.settings, database_url=here.proxy.url) if number == 0 else here.settings
        here.processes.start(name, ["worker"], way)


def _settings(database_url: str, gateway_url: str, trial: Trial) -> Settings:
    """Quick to retry and to time out, so that a run ends in minutes."""
    return Settings(
        database_url=database_url,
        port=free_port(),
        api_key=KEY,
        api_rate=0,
        gateway_url=gateway_url,
        gateway_token=TOKEN,
        gateway_timeout_s=2.0,
        gateway_concurrency=trial.connections,
        gateway_rate=trial.rate,
        on_unknown="hold" if trial.on_unknown == "hold" else "retry",
        failover="lossless" if trial.failover == "lossless" else "restore",
        retry_base_s=0.5,
        retry_max_s=5.0,
        log_format="json",
    )

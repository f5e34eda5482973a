"""Every process of the product, with a secret wherever one can be set, and its output kept."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
from msgspec.structs import replace

from mailing.process.ports import free_port
from mailing.settings import Settings
from secrecy.canaries import Canaries
from support.mail_server import CERTIFICATE
from support.processes import MAILING, clean_environment, running, stop, until_ready

PATIENCE_S = 120.0
ROLES = {"api": "mailing_api", "worker": "mailing_worker"}


def secretive(settings: Settings, canaries: Canaries, *, gateway: str, smtp_port: int) -> Settings:
    """Make reports due at once, and retries quick."""
    return replace(
        settings,
        api_key=canaries.new("MAILING_API_KEY"),
        admin_password=canaries.new("MAILING_ADMIN_PASSWORD"),
        gateway_url=f"{gateway}/v1",
        gateway_token=canaries.new("MAILING_GATEWAY_TOKEN"),
        gateway_timeout_s=1.0,
        retry_base_s=0.05,
        retry_max_s=0.2,
        oidc_issuer=gateway,
        oidc_client_id="mailing",
        oidc_client_secret=canaries.new("MAILING_OIDC_CLIENT_SECRET"),
        oidc_roles="*=viewer",
        report_to="reader@example.org",
        report_time="00:00",
        smtp_host="localhost",
        smtp_port=smtp_port,
        smtp_user="postman",
        smtp_password=canaries.new("MAILING_SMTP_PASSWORD"),
        smtp_starttls=True,
        log_level="debug",
    )


@asynccontextmanager
async def own_roles(url: str, canaries: Canaries) -> AsyncIterator[dict[str, str]]:
    """Each part's own address, with a password of its own, that may what its role in deploy/roles.sql may."""
    owner, addresses = await asyncpg.connect(url), {}
    suffix = urlsplit(url).path.removeprefix("/")
    for part, role in ROLES.items():
        password = canaries.new(f"password of {part} in MAILING_DATABASE_URL")
        await owner.execute(f"CREATE ROLE {part}_{suffix} LOGIN PASSWORD '{password}' IN ROLE {role}")
        place = urlsplit(url).netloc.rpartition("@")[2]
        addresses[part] = urlsplit(url)._replace(netloc=f"{part}_{suffix}:{password}@{place}").geturl()
    try:
        yield addresses
    finally:
        for part in ROLES:
            await owner.execute(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{part}_{suffix}'"
            )
            await owner.execute(f"DROP ROLE {part}_{suffix}")
        await owner.close()


@dataclass
class Processes:
    """`logs` by name: what a process wrote, in all its lives."""

    directory: Path
    settings: Settings
    addresses: dict[str, str]
    running: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    _all: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def start(self, name: str, part: str, *arguments: str, **changes: Any) -> None:  # noqa: ANN401 - of Settings
        address = self.addresses.get(part, self.settings.database_url)
        settings = replace(self.settings, database_url=address, **changes)
        process = running(
            *(*MAILING, part, *arguments),
            cwd=self.directory,
            env=clean_environment(settings, SSL_CERT_FILE=str(CERTIFICATE)),
            stdin=asyncio.subprocess.DEVNULL,
            log=self.directory / f"{name}.log",
            end_s=PATIENCE_S,
        )
        self.running[name] = await self._all.enter_async_context(process)

    async def serve(self, name: str, **changes: Any) -> httpx.AsyncClient:  # noqa: ANN401 - of Settings
        port = free_port()
        await self.start(name, "api", port=port, **changes)
        url = f"http://127.0.0.1:{port}"
        await until_ready(url, self.running[name], seconds=PATIENCE_S)
        return httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, trust_env=False)

    async def kill(self, name: str) -> None:
        await stop(self.running[name], signal.SIGKILL)

    async def end(self) -> None:
        await self._all.aclose()

    @property
    def logs(self) -> dict[str, str]:
        return {log.name: log.read_text() for log in self.directory.glob("*.log")}

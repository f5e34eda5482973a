"""Everything on one machine: embedded PostgreSQL, sandbox gateway, API and worker, under one supervisor.

API and worker start first: while they load their modules, the database is created, started and migrated.
"""

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from mailing.errors import MailingError
from mailing.gateway.sandbox.dialects import base_path_of
from mailing.process.local_database import Echo, create_database, data_dir_of, url_of
from mailing.process.ports import require_free_port
from mailing.process.supervisor import Child, Signals, supervise, worker_grace_s
from mailing.settings import PREFIX, Settings, environment
from mailing.urls import http_url

SANDBOX_HOST = "127.0.0.1"  # even if MAILING_HOST is public: it shows phones and texts without a key
PREPARATION_S = 600  # what the database may take until it is migrated: it may replay its log, or a migration be long


@dataclass(frozen=True)
class LocalStack:
    """Addresses, credentials and child processes. `admin_password` is set if it was generated just now.

    `sandbox_url` is None if a gateway is configured. `running` ends with the children, and is the one that refused to
    start, if any.
    """

    url: str
    api_key: str
    made_key: bool
    admin_password: str | None
    sandbox_url: str | None
    running: asyncio.Task[Child | None]


@asynccontextmanager
async def local_stack(
    settings: Settings, *, sandbox_port: int, signals: Signals, echo: Echo
) -> AsyncIterator[LocalStack]:
    """Start the children and prepare the database. Raise MailingError for a port in use, or an unusable directory.

    At the end of the block the children are stopped, then the database.
    """
    require_free_port(settings.host, settings.port)
    if not settings.gateway_url:
        require_free_port(SANDBOX_HOST, sandbox_port, "MAILING_PORT: the sandbox gateway uses the port after it")
    key, made_key = _api_key(settings)
    sandbox_url = None if settings.gateway_url else f"http://{SANDBOX_HOST}:{sandbox_port}"
    complete = replace(settings, database_url=url_of(settings), api_key=key, admin_password=None)
    children = []
    if sandbox_url:
        complete = _with_sandbox(complete, sandbox_url)
        arguments = ("--host", SANDBOX_HOST, "--port", str(sandbox_port), "--provider", settings.gateway_provider)
        children = [_child("sandbox", complete, *arguments)]
    children += [_child(name, complete, "--wait", str(PREPARATION_S)) for name in ("api", "worker")]
    grace_s = worker_grace_s(settings.gateway_timeout_s)
    running = asyncio.create_task(supervise(children, signals=signals, on_event=echo, grace_s=grace_s))

    async def end() -> None:
        signals.stop.set()
        await running

    async with AsyncExitStack() as exits:
        try:
            await exits.enter_async_context(create_database(settings, stop=signals.stop, echo=echo))
        finally:  # also if that failed: the children have started
            exits.push_async_callback(end)
        password = await _first_password(str(complete.database_url), settings.admin_password)
        yield LocalStack(http_url(settings.host, settings.port), key, made_key, password, sandbox_url, running)


def _with_sandbox(settings: Settings, sandbox_url: str) -> Settings:
    """Return the settings with the sandbox as gateway. It accepts any account, and reports to this machine."""
    url = sandbox_url + base_path_of(settings.gateway_provider)
    complete = replace(settings, gateway_url=url, gateway_token="sandbox")  # noqa: S106 - the sandbox accepts any
    if settings.gateway_provider == "probe":
        return complete
    return replace(
        complete,
        gateway_user=settings.gateway_user or f"AC{0:032}",
        sender=settings.sender or "Sandbox",
        public_url=settings.public_url or f"http://{SANDBOX_HOST}:{settings.port}",
    )


async def until_ended(stack: LocalStack) -> None:
    """Wait until all children have ended. Raise MailingError if one refused to start."""
    if refused := await stack.running:
        raise MailingError(f"mailing {refused.name} refuses to start; see its message above")


async def _first_password(database_url: str, configured: str | None) -> str | None:
    """Create the user `admin` if there are no users. Return the password if it was generated."""
    from mailing.process.preparation import create_first_user  # noqa: PLC0415 - SQLAlchemy; the children start first

    password = configured or secrets.token_urlsafe(12)
    made = await create_first_user(database_url, password)
    return password if made and not configured else None


def _child(name: str, settings: Settings, *arguments: str) -> Child:
    """Build a child with every setting in its environment, in a directory without another `.env`."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)} | environment(settings)
    argv = [sys.executable, "-m", "mailing", name, "--supervised", *arguments]
    return Child(name, argv, env, cwd=data_dir_of(settings))


def _api_key(settings: Settings) -> tuple[str, bool]:
    """Return the API key, and whether it was made just now. Create the data directory, which keeps it."""
    try:
        data_dir_of(settings).mkdir(parents=True, exist_ok=True)
        if settings.api_key:
            return settings.api_key, False
        return _stored_key(data_dir_of(settings) / "api-key")
    except OSError as error:
        raise MailingError(
            f"{error.filename or data_dir_of(settings)} cannot be used ({error.strerror}); "
            "set MAILING_DATA_DIR to a directory that this user may write to"
        ) from error


def _stored_key(path: Path) -> tuple[str, bool]:
    """Return the API key stored beside the data, creating it on the first start, readable only by its owner."""
    if path.is_file():
        return path.read_text(encoding="ascii").strip(), False
    key = "mk_" + secrets.token_urlsafe(32)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(key + "\n")
    return key, True

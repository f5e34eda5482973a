"""API and worker behind PgBouncer in transaction mode, on fewer server connections than they hold."""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import asyncpg
import psycopg
import pytest
from msgspec.structs import replace

from mailing.process.ports import free_port
from support import commands
from support.api import running_api
from support.campaign import Campaign, working
from support.database import Database, open_database
from support.processes import clean_environment, is_listening, running, until
from support.roles import NAMES, PASSWORD, url_as

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(PROGRAM is None, reason="PgBouncer is not installed")]

SETTINGS = {"TimeZone": "UTC", "statement_timeout": "25s", "idle_in_transaction_session_timeout": "5s"}


@pytest.fixture
def readable() -> Iterator[Path]:
    """A directory that PgBouncer's user can read: it refuses to run as root."""
    with TemporaryDirectory(prefix="pgbouncer-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture
async def pooled(database_url: str, readable: Path) -> AsyncIterator[str]:
    """A URL of PgBouncer with four server connections for each role."""
    server, port = urlsplit(database_url), free_port()
    (readable / "users").write_text("".join(f'"{name}" "{PASSWORD}"\n' for name in NAMES))
    (readable / "pgbouncer.ini").write_text(f"""
[databases]
* = host={server.hostname} port={server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {readable}/users
pool_mode = transaction
default_pool_size = 4
admin_users = mailing_api
max_client_conn = 100
""")
    user = "postgres" if os.geteuid() == 0 else None
    async with running(str(PROGRAM), readable / "pgbouncer.ini", log=readable / "log", user=user):
        await until(lambda: is_listening(port), seconds=30)
        yield f"postgresql://postgres@127.0.0.1:{port}/{server.path[1:]}?pgbouncer=true"


async def _give_roles_their_settings(database_url: str) -> None:
    owner, name = await asyncpg.connect(database_url), urlsplit(database_url).path[1:]
    for role in NAMES:
        for setting, wanted in SETTINGS.items():
            await owner.execute(f"ALTER ROLE {role} IN DATABASE {name} SET {setting} = '{wanted}'")
    await owner.close()


async def test_a_campaign_runs_through_it_and_each_message_is_sent_once(
    campaign: Campaign, pooled: str, database_url: str
) -> None:
    await _give_roles_their_settings(database_url)
    through = replace(campaign.settings, database_url=pooled)
    async with running_api(through) as api, working(through):
        both = Campaign(api, campaign.db, through, campaign.sandbox)
        created = await asyncio.gather(
            *[api.post("/clients/", json={"phone": f"7916{n:07}", "timezone": "UTC"}) for n in range(20)]
        )
        assert {answer.status_code for answer in created} == {201}
        mailing = await both.mailing()
        pages = await asyncio.gather(*[api.get("/clients/", params={"limit": 50}) for _ in range(10)])
        assert {answer.status_code for answer in pages} == {200}
        assert await both.finished(mailing) == {"planned": 20, "sent": 20}
    assert [item["repeats"] for item in await campaign.sandbox.ledger()] == [0] * 20


@pytest.mark.parametrize(("command", "needed"), [("api", "10s"), ("worker", "25s")])
def test_a_process_prints_the_limit_that_its_own_role_needs(
    pooled: str, tmp_path: Path, command: str, needed: str
) -> None:
    env = clean_environment(
        MAILING_DATABASE_URL=url_as(f"mailing_{command}", pooled),
        MAILING_GATEWAY_URL="http://127.0.0.1:1/v1",
        MAILING_PORT=str(free_port()),
    )
    refused = commands.mailing(command, cwd=tmp_path, env=env)
    assert refused.returncode == 1
    assert f"ALTER ROLE mailing_{command} SET statement_timeout = '{needed}';" in refused.stderr


async def test_a_role_without_the_settings_is_refused_and_served_after_what_it_is_told_to_do(
    pooled: str, db: Database
) -> None:
    """PgBouncer remembers the TimeZone of its servers, and sets it for each client, until it has connected anew."""
    name = await db.value("SELECT current_database()")
    await db.run(f"ALTER DATABASE {name} SET TimeZone = 'Asia/Tokyo'")
    async with open_database(url_as("mailing_worker", pooled)) as worker:
        with pytest.raises(asyncpg.PostgresError, match="Then RECONNECT") as refused:
            await worker.value("SELECT 1")
        statements = re.findall(r"ALTER ROLE mailing_worker (SET [^;]+);", str(refused.value))
        assert len(statements) == len(SETTINGS)
        for each in statements:
            await db.run(f"ALTER ROLE mailing_worker IN DATABASE {name} {each}")
        console = url_as("mailing_api", pooled).replace(name, "pgbouncer").partition("?")[0]
        with psycopg.connect(console, autocommit=True) as administrator:
            administrator.execute("RECONNECT")
        assert await worker.value("SELECT 1") == 1

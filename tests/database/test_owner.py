"""The owner of the schema is no superuser: it migrates, grants, and runs every command that people run."""

import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from click.testing import CliRunner, Result

from mailing.cli.main import cli
from support.postgres import URL, apply_schema
from support.roles import ROLES

PHONE = "79161234567"
PASSWORD = "only-of-this-test"
OWNER = "mailing_owner_of_a_test"


@dataclass(frozen=True)
class Owner:
    url: str

    def does(self, *arguments: str, given: str | None = None) -> Result:
        env = {"MAILING_DATABASE_URL": self.url, "MAILING_TEST_DATABASE_URL": None}
        done = CliRunner().invoke(cli, arguments, env=env, input=given)
        assert done.exit_code == 0, (arguments, done.output, done.exception)
        return done


@pytest.fixture
async def owner() -> AsyncIterator[Owner]:
    """Of a database without a schema; it may make no roles and no databases."""
    admin = await asyncpg.connect(os.environ[URL])
    name = f"{OWNER}_{os.getpid()}"
    await admin.execute(f"CREATE ROLE {name} LOGIN NOSUPERUSER PASSWORD '{PASSWORD}'")
    await admin.execute(f"CREATE DATABASE {name} OWNER {name} TEMPLATE template0")
    place = urlsplit(os.environ[URL]).netloc.rpartition("@")[2]
    yield Owner(f"postgresql://{name}:{PASSWORD}@{place}/{name}")
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.execute(f"DROP ROLE {name}")
    await admin.close()


def test_the_owner_of_the_schema_needs_no_more_than_to_own_it(owner: Owner, tmp_path: Path) -> None:
    owner.does("migrate")
    owner.does("migrate")
    (clients := tmp_path / "clients.csv").write_text(f"phone,timezone\n{PHONE},UTC\n")
    owner.does("import", str(clients))
    assert PHONE in owner.does("export").stdout
    assert json.loads(owner.does("privacy", "export", PHONE).stdout)["client"]["phone"] == PHONE
    owner.does("privacy", "erase", PHONE)
    (log := tmp_path / "erasures").write_text(owner.does("privacy", "log").stdout)
    owner.does("privacy", "allow", PHONE)
    owner.does("privacy", "reapply", str(log))
    assert PHONE not in owner.does("export").stdout
    assert "mk_" in owner.does("key", "create", "crm").stdout
    owner.does("key", "revoke", "1")
    owner.does("user", "create", "anna", "--role", "admin", given="correct horse battery\n")
    owner.does("user", "password", "anna", given="battery horse correct\n")
    owner.does("report", "--date", "2026-01-02", "--dry-run")
    owner.does("resume-after-restore", "--force")


async def test_the_owner_grants_what_roles_sql_says_again_after_each_migration(owner: Owner) -> None:
    await apply_schema(owner.url)
    connection = await asyncpg.connect(owner.url)
    await connection.execute(ROLES.read_text("utf-8"))
    await connection.execute(ROLES.read_text("utf-8"))
    granted = "SELECT has_table_privilege('mailing_worker', 'message', 'UPDATE')"
    assert await connection.fetchval(granted)
    await connection.close()


async def test_where_the_functions_of_the_log_are_refused_the_identity_has_no_timeline(owner: Owner) -> None:
    """As Amazon Aurora refuses them, unless its wal_level is logical."""
    name = urlsplit(owner.url).path[1:]
    admin = await asyncpg.connect(urlsplit(os.environ[URL])._replace(path=f"/{name}").geturl())
    await admin.execute("REVOKE EXECUTE ON FUNCTION pg_current_wal_lsn() FROM PUBLIC")
    await apply_schema(owner.url)
    assert str(await admin.fetchval("SELECT database_identity()")).startswith("without log/")
    assert await admin.fetchval("SELECT database_identity = database_identity() FROM installation")
    await admin.close()

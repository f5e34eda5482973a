"""The roles of `deploy/roles.sql`, with a password that any server takes."""

from urllib.parse import urlsplit

import asyncpg

from support import ROOT
from support.postgres import apply_schema

ROLES = ROOT / "deploy" / "roles.sql"
NAMES = ("mailing_api", "mailing_worker")
PASSWORD = "for-tests"


async def furnish(url: str) -> None:
    """Give a new database the schema and the roles."""
    await apply_schema(url)
    await grant(url)


async def grant(url: str) -> None:
    """In a database with the schema; copies of it keep the grants."""
    owner = await asyncpg.connect(url)
    await owner.execute(ROLES.read_text("utf-8"))
    for name in NAMES:
        await owner.execute(f"ALTER ROLE {name} PASSWORD '{PASSWORD}'")
    await owner.close()


def url_as(role: str, url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{role}:{PASSWORD}@{parts.netloc.rpartition('@')[2]}").geturl()

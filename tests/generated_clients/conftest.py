"""The whole service on sockets, for clients that generators made from its OpenAPI document."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from mailing.app import create_app
from mailing.database.engine import transaction
from mailing.mailings import editing
from mailing.mailings.schemas import MailingIn
from mailing.settings import Settings
from mailing.web.validation import check
from support.campaign import Sandbox, running_sandbox, working
from support.database import Database
from support.mailing_requests import body, in_hours


@dataclass(frozen=True)
class Service:
    """`draft` is a mailing that an editor wrote at the admin page; a client of the API may release it."""

    url: str
    draft: int
    sandbox: Sandbox

    async def accepted(self) -> list[tuple[str, str]]:
        """Return phone and text of each SMS that the gateway accepted."""
        return sorted((str(sms["phone"]), sms["text"]) for sms in await self.sandbox.ledger())


DRAFT_SMS = [("79161234567", "A draft"), ("79161234568", "A draft")]
OWN_SMS = [("79161234567", "Hello"), ("79161234568", "Hello")]
ALL_SMS = sorted(DRAFT_SMS + OWN_SMS)


@pytest.fixture(scope="session")
def document() -> dict[str, Any]:
    schema: dict[str, Any] = create_app(Settings()).openapi_schema.to_schema()
    return schema


@pytest.fixture
def place(tmp_path: Path, document: dict[str, Any]) -> Path:
    """Return a directory with the document in `openapi.json`."""
    (tmp_path / "openapi.json").write_text(json.dumps(document), encoding="utf-8")
    return tmp_path


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with running_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def settings(settings: Settings, sandbox: Sandbox) -> Settings:
    return replace(settings, gateway_url=sandbox.url, gateway_token="t", log_level="warning")


@pytest.fixture
async def service(address: str, settings: Settings, db: Database, sandbox: Sandbox) -> AsyncIterator[Service]:
    async with transaction(db.sessions) as session:
        data = check(body(text="A draft", starts_at=in_hours(-1)), MailingIn)
        draft = await editing.create_draft(session, data, by="user 1 (editor)")
    async with working(settings):
        yield Service(address, draft.id, sandbox)


@pytest.fixture
def times() -> tuple[datetime, datetime]:
    """Return start and end of a mailing that is sent at once."""
    now = datetime.now(UTC)
    return now - timedelta(hours=1), now + timedelta(hours=1)

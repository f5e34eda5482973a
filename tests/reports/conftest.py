"""An SMTP server, settings that point to it, and rows of every state."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import text

from mailing.reports.jobs import Attempted, send_next
from mailing.settings import Settings
from support.database import Database
from support.mail_server import PostOffice, open_post_office
from support.reports import ReportRows, Rows, Send


@pytest.fixture
async def office() -> AsyncIterator[PostOffice]:
    async with open_post_office() as office:
        yield office


@pytest.fixture
def reporting(settings: Settings, office: PostOffice) -> Settings:
    return replace(settings, smtp_port=office.port, report_to="ops@example.org", report_from="mailing@example.org")


@pytest.fixture
def send(db: Database, reporting: Settings) -> Send:
    async def send_all(now: datetime, settings: Settings | None = None) -> list[Attempted]:
        tried = []
        while found := await send_next(db.sessions, settings or reporting, now=now):
            tried.append(found)
        return tried

    return send_all


@pytest.fixture
def rows(db: Database) -> Rows:
    return Rows(db.sessions)


@pytest.fixture
def report_rows(db: Database) -> ReportRows:
    async def read() -> list[dict[str, Any]]:
        async with db.sessions() as session:
            return [dict(row) for row in (await session.execute(text("SELECT * FROM report ORDER BY day"))).mappings()]

    return read

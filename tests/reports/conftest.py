"""An SMTP server, settings that point to it, and rows of every state."""

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from mailing.settings import Settings
from support.database import Database
from support.mail_server import PostOffice, open_post_office
from support.reports import Reports, Rows


@pytest.fixture
async def office() -> AsyncIterator[PostOffice]:
    async with open_post_office() as office:
        yield office


@pytest.fixture
def reports(db: Database, settings: Settings, office: PostOffice) -> Reports:
    names = {"report_to": "ops@example.org", "report_from": "mailing@example.org"}
    return Reports(db, replace(settings, smtp_port=office.port, **names), office)


@pytest.fixture
def rows(db: Database) -> Rows:
    return Rows(db)

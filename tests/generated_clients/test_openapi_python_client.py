"""A client of Python functions and classes, made by openapi-python-client, runs a mailing."""

import asyncio
import importlib
from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from generated_clients.conftest import ALL_SMS, Service
from support.api import KEY
from support.generators import needs, quietly
from support.openapi import operations

PACKAGE = "generated_mailing_client"
CSV = b"phone,timezone\n79161234568,Asia/Omsk\n"

pytestmark = [needs("openapi-python-client"), pytest.mark.slow]


@pytest.fixture
async def generated(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (place / "config.json").write_text('{"post_hooks": []}', encoding="utf-8")
    package = place / PACKAGE
    options = ["--path", "openapi.json", "--config", "config.json", "--meta", "none", "--output-path", str(package)]
    await quietly(["openapi-python-client", "generate", *options, "--fail-on-warning"], cwd=place)
    monkeypatch.syspath_prepend(place)
    return package


async def test_it_has_every_operation_and_runs_a_mailing(
    generated: Path, document: dict[str, Any], service: Service, times: tuple[datetime, datetime]
) -> None:
    made = {path.stem for path in (generated / "api").glob("*/*.py")} - {"__init__"}
    assert made == {operation["operationId"] for _, _, operation in operations(document)}
    client = module("client").AuthenticatedClient(service.url, token=KEY)
    async with client:
        first = await call("clients", "create_client", client, body=client_in("+7 (916) 123-45-67"))
        assert first.phone == "79161234567"
        imported = await call("clients", "import_clients", client, body=module("types").File(CSV))
        assert (imported.created, imported.errors) == (1, [])
        listed = await call("clients", "list_clients", client, limit=1)
        assert [each.phone for each in listed.items] == ["79161234567"]
        await cancel(client, times[1])
        await send(client, service.draft, times)
        assert await service.accepted() == ALL_SMS
        assert (await detailed("clients", "delete_client", client, client_id=first.id)).status_code == 204
        problem = await call("clients", "read_client", client, client_id=first.id)
        assert (problem.status, problem.title) == (404, "Not found")
        assert "79161234568" in await call("clients", "export_clients", client)


async def send(client: Any, draft: int, times: tuple[datetime, datetime]) -> None:  # noqa: ANN401 - made by the test
    models = module("models")
    new = models.MailingIn(text="Hello", starts_at=times[0], ends_at=times[1])
    preview = await call("mailings", "preview_mailing", client, body=new)
    assert preview.recipients == 2
    answer = await detailed("mailings", "create_mailing", client, body=new)
    mailing = answer.parsed
    assert answer.status_code == HTTPStatus.CREATED
    assert answer.headers["location"] == f"/mailing/api/mailings/{mailing.id}/"
    read = await call("mailings", "read_mailing", client, mailing_id=draft)
    assert read.status == models.MailingStatus.DRAFT
    await call("mailings", "release_mailing", client, mailing_id=draft, revision=read.revision)
    statistics = [await finished(client, mailing_id) for mailing_id in (mailing.id, draft)]
    assert [(each.counts.planned, each.counts.sent) for each in statistics] == [(2, 2), (2, 2)]
    message = await call("messages", "read_message", client, message_id=statistics[0].messages.items[0].id)
    assert message.status == models.MessageStatus.SENT
    cancelled = await detailed("mailings", "cancel_mailing", client, mailing_id=mailing.id)
    assert cancelled.parsed.status == HTTPStatus.CONFLICT


async def cancel(client: Any, ends_at: datetime) -> None:  # noqa: ANN401 - made by the test
    """Create a mailing that has not started, and cancel it."""
    models = module("models")
    later = models.MailingIn(text="Later", starts_at=ends_at, ends_at=ends_at + timedelta(hours=1))
    scheduled = await call("mailings", "create_mailing", client, body=later)
    cancelled = await call("mailings", "cancel_mailing", client, mailing_id=scheduled.id)
    assert (scheduled.status, cancelled.status) == (models.MailingStatus.SCHEDULED, models.MailingStatus.CANCELLED)


async def finished(client: Any, mailing_id: int) -> Any:  # noqa: ANN401 - made by the test
    while True:
        read = await call("statistics", "mailing_statistics", client, mailing_id=mailing_id)
        if read.status == module("models").MailingStatus.FINISHED:
            return read
        await asyncio.sleep(0.05)


def client_in(phone: str) -> Any:  # noqa: ANN401 - made by the test
    return module("models").ClientIn(phone=phone, timezone="UTC")


def module(name: str) -> Any:  # noqa: ANN401 - made by the test
    return importlib.import_module(f"{PACKAGE}.{name}")


async def detailed(tag: str, operation: str, client: Any, **given: object) -> Any:  # noqa: ANN401 - made by the test
    return await module(f"api.{tag}.{operation}").asyncio_detailed(client=client, **given)


async def call(tag: str, operation: str, client: Any, **given: object) -> Any:  # noqa: ANN401 - made by the test
    return (await detailed(tag, operation, client, **given)).parsed

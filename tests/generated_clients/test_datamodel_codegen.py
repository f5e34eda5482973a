"""Structs made by datamodel-codegen are what httpx sends and receives while a mailing runs."""

import asyncio
import importlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from generated_clients.conftest import ALL_SMS, Service
from support.api import KEY
from support.generators import needs, quietly
from support.plain_http import NO_TLS

MODULE = "generated_mailing_models"

pytestmark = [needs("datamodel-codegen"), pytest.mark.slow]

Api = Callable[..., Any]


@pytest.fixture
async def models(place: Path, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401 - made by the test
    options = ["--input", "openapi.json", "--input-file-type", "openapi", "--output", f"{MODULE}.py"]
    kind = ["--output-model-type", "msgspec.Struct", "--target-python-version", "3.11", "--formatters", "builtin"]
    await quietly(["datamodel-codegen", *options, *kind], cwd=place)
    monkeypatch.syspath_prepend(place)
    return importlib.import_module(MODULE)


async def test_it_has_every_schema_and_they_run_a_mailing(
    models: Any,  # noqa: ANN401 - made by the test
    document: dict[str, Any],
    service: Service,
    times: tuple[datetime, datetime],
) -> None:
    assert [name for name in document["components"]["schemas"] if not hasattr(models, name)] == []
    async with httpx.AsyncClient(
        base_url=f"{service.url}/mailing/api",
        headers={"Authorization": f"Bearer {KEY}"},
        verify=NO_TLS,
        trust_env=False,
    ) as http:

        async def ask(method: str, path: str, kind: type, body: object = None) -> Any:  # noqa: ANN401 - of that kind
            answer = await http.request(method, path, content=msgspec.json.encode(body) if body else None)
            assert answer.is_success, answer.text
            return msgspec.json.decode(answer.content, type=kind)

        for phone in ("79161234567", "79161234568"):
            made = await ask("POST", "/clients", models.ClientOut, models.ClientIn(phone=phone, timezone="UTC"))
            assert made.phone == phone
        await send(models, ask, service.draft, times)
    assert await service.accepted() == ALL_SMS


async def send(models: Any, ask: Api, draft: int, times: tuple[datetime, datetime]) -> None:  # noqa: ANN401 - made by the test
    starts_at, ends_at = (moment.isoformat() for moment in times)
    new = models.MailingIn(text="Hello", starts_at=starts_at, ends_at=ends_at)
    assert (await ask("POST", "/mailings/preview", models.Preview, new)).recipients == 2
    mailing = await ask("POST", "/mailings", models.MailingOut, new)
    read = await ask("GET", f"/mailings/{draft}", models.MailingOut)
    assert read.status is models.MailingStatus.draft
    await ask("POST", f"/mailings/{draft}/release?revision={read.revision}", models.MailingOut)
    statistics = [await finished(models, ask, mailing_id) for mailing_id in (mailing.id, draft)]
    assert [(each.counts.planned, each.counts.sent) for each in statistics] == [(2, 2), (2, 2)]
    message = await ask("GET", f"/messages/{statistics[0].messages.items[0].id}", models.MessageDetail)
    assert message.status is models.MessageStatus.sent
    events = await ask("GET", f"/events?mailing_id={draft}", models.HistoryEntryPage)
    assert {"mailing.created", "mailing.released"} <= {event.kind for event in events.items}


async def finished(models: Any, ask: Api, mailing_id: int) -> Any:  # noqa: ANN401 - made by the test
    while True:
        read = await ask("GET", f"/statistics/{mailing_id}", models.MailingStatistics)
        if read.status is models.MailingStatus.finished:
            return read
        await asyncio.sleep(0.05)

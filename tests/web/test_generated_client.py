"""A client that a generator makes from the OpenAPI document runs a mailing, in this process."""

import importlib
import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest

from mailing.app import create_app
from mailing.database.engine import Sessions
from mailing.sending.plan import plan_mailing
from mailing.settings import Settings
from support.api import KEY, running_app
from support.openapi import operations

GENERATOR = shutil.which("openapi-python-client")
PACKAGE = "generated_mailing_client"
CSV = b"phone,timezone\n79161234567,UTC\n79161234568,Asia/Omsk\n"

pytestmark = pytest.mark.skipif(GENERATOR is None, reason="needs openapi-python-client on PATH: uv tool install it")


@pytest.fixture
def document() -> dict[str, Any]:
    return create_app(Settings()).openapi_schema.to_schema()


@pytest.fixture
def generated(tmp_path: Path, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package; no warning was printed."""
    (tmp_path / "openapi.json").write_text(json.dumps(document), encoding="utf-8")
    (tmp_path / "config.json").write_text('{"post_hooks": []}', encoding="utf-8")
    package = tmp_path / PACKAGE
    options = ["--path", "openapi.json", "--config", "config.json", "--meta", "none", "--output-path", str(package)]
    done = subprocess.run(  # noqa: S603 - the generator, with our own document
        [str(GENERATOR), "generate", *options, "--fail-on-warning"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "arning" not in done.stdout
    monkeypatch.syspath_prepend(tmp_path)
    return package


def test_every_operation_has_its_function(generated: Path, document: dict[str, Any]) -> None:
    made = {path.stem for path in (generated / "api").glob("*/*.py")} - {"__init__"}
    assert made == {operation["operationId"] for _, _, operation in operations(document)}


async def test_it_runs_a_mailing(generated: Path, settings: Settings, sessions: Sessions) -> None:
    assert generated.name == PACKAGE
    async with running_app(settings) as app:
        client = module("client").AuthenticatedClient("http://test", token=KEY)
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type] # Litestar's Scope is a stricter TypedDict
        headers = {"Authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as http:
            await run_mailing(client.set_async_httpx_client(http), sessions)


async def run_mailing(client: Any, sessions: Sessions) -> None:  # noqa: ANN401 - made by the test
    models, now = module("models"), datetime.now(UTC)
    imported = await call("clients", "import_clients", client, body=module("types").File(CSV))
    assert (imported.created, imported.errors) == (2, [])
    listed = await call("clients", "list_clients", client, limit=1)
    assert listed.items[0].phone == "79161234567"
    body = models.MailingIn(text="Hello", starts_at=now - timedelta(hours=1), ends_at=now + timedelta(hours=1))
    preview = await call("mailings", "preview_mailing", client, body=body)
    assert preview.recipients == 2
    answer = await detailed("mailings", "create_mailing", client, body=body)
    mailing = answer.parsed
    assert answer.status_code == HTTPStatus.CREATED
    assert answer.headers["location"] == f"/mailing/api/mailings/{mailing.id}/"
    await plan_mailing(sessions, mailing.id)
    statistics = await call("statistics", "mailing_statistics", client, mailing_id=mailing.id)
    assert (statistics.counts.planned, len(statistics.messages.items)) == (2, 2)
    message = await call("messages", "read_message", client, message_id=statistics.messages.items[0].id)
    assert message.status == models.MessageStatus.PENDING
    cancelled = await call("mailings", "cancel_mailing", client, mailing_id=mailing.id)
    assert (cancelled.status, cancelled.stopped) == (models.MailingStatus.CANCELLED, 2)
    assert (await detailed("clients", "delete_client", client, client_id=listed.items[0].id)).status_code == 204
    problem = await call("clients", "read_client", client, client_id=listed.items[0].id)
    assert (problem.status, problem.title) == (404, "Not found")
    assert "79161234568" in await call("clients", "export_clients", client)


def module(name: str) -> Any:  # noqa: ANN401 - made by the test
    return importlib.import_module(f"{PACKAGE}.{name}")


async def detailed(tag: str, operation: str, client: Any, **given: object) -> Any:  # noqa: ANN401 - made by the test
    return await module(f"api.{tag}.{operation}").asyncio_detailed(client=client, **given)


async def call(tag: str, operation: str, client: Any, **given: object) -> Any:  # noqa: ANN401 - made by the test
    return (await detailed(tag, operation, client, **given)).parsed

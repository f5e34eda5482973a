"""A real Prometheus scrapes a real run: the dashboard's questions are answered, an alert fires and clears."""

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml  # type: ignore[import-untyped] # comes with Litestar, its stubs don't
from msgspec.structs import replace

from mailing.messages.counter_audit import audit_counts
from mailing.metrics import routes
from mailing.observability import counters
from mailing.process.ports import free_port
from mailing.settings import Settings
from support import ROOT
from support.campaign import Campaign
from support.processes import running, until

PROGRAM = shutil.which("prometheus")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="prometheus is not on PATH; Debian's package has that name"),
]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The API expects receipts, because the dashboard has panels of them."""
    return replace(settings, gateway_provider="kannel", public_url="http://127.0.0.1")


@pytest.fixture(autouse=True)
def _fresh_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MAX_AGE_S", 0.5)
    monkeypatch.setattr(counters, "FLUSH_INTERVAL_S", 0.5)


@asynccontextmanager
async def prometheus(directory: Path, target: str) -> AsyncIterator[httpx.AsyncClient]:
    """Ours in everything but its pace."""
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(ROOT / "deploy/prometheus/alerts.yml")]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    options = (
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=error",
    )
    async with (
        running(str(PROGRAM), *options),
        httpx.AsyncClient(base_url=f"http://{address}/api/v1", trust_env=False) as http,
    ):
        yield http


async def asked(http: httpx.AsyncClient, expression: str) -> list[dict[str, Any]]:
    try:
        answer = (await http.get("/query", params={"query": expression})).json()
    except httpx.TransportError:
        return []  # it is still starting
    result: list[dict[str, Any]] = answer["data"]["result"]
    return result


async def firing(http: httpx.AsyncClient) -> set[str]:
    return {each["metric"]["alertname"] for each in await asked(http, 'ALERTS{alertstate="firing"}')}


async def test_the_dashboard_is_answered_and_an_alert_fires_and_clears(
    address: str, campaign: Campaign, tmp_path: Path
) -> None:
    dashboard = json.loads((ROOT / "deploy/grafana/mailing.json").read_text())
    unanswered = {target["expr"] for panel in dashboard["panels"] for target in panel["targets"]}
    await campaign.sandbox.behave(error_500=0.2)
    await campaign.clients(200)
    async with campaign.working(gateway_provider="probe"), prometheus(tmp_path, urlsplit(address).netloc) as http:
        await campaign.finished(await campaign.mailing())
        await audit_counts(campaign.db.sessions)

        async def are_answered() -> bool:
            unanswered.difference_update([each for each in unanswered if await asked(http, each)])
            return not unanswered

        await until(are_answered, every_s=0.5)

        for counted in (
            'mailing_gateway_calls_total{outcome="accepted"} == 200',
            'mailing_postponed_total{reason="retry"} > 0',
            'mailing_messages{status="sent"} == 200',
        ):
            await until(partial(asked, http, counted), every_s=0.5)
        assert not {"MailingRestored", "MailingNotScraped", "MailingDatabaseAway"} & await firing(http)

        await campaign.db.run("UPDATE installation SET database_identity = 'elsewhere'")
        restored = 'ALERTS{alertname="MailingRestored", alertstate="firing"}'
        await until(partial(asked, http, restored), every_s=0.5)
        await campaign.db.run("UPDATE installation SET database_identity = database_identity()")
        await until(partial(asked, http, f"absent({restored})"), every_s=0.5)

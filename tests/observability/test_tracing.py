"""Traces as a collector receives them, and that nothing is there of them where nobody asked."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from mailing.cli.main import cli
from mailing.errors import ConfigurationError
from mailing.job_queue.worker import Queue
from mailing.observability import tracing
from mailing.observability.tracing import otel
from mailing.process.ports import free_port
from mailing.settings import Settings
from support.api import KEY, Api
from support.database import Database
from support.jobs import enqueue
from support.logs import logged
from support.plain_http import NO_TLS
from support.processes import MAILING, clean_environment, running, until_ready
from support.trace_collector import Collector, collecting

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PHONE = "79161112233"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Traces are on in this process until `tracing.finish`."""
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        tracing.start("tests", os.environ)
        yield collector
        tracing.finish()


async def test_a_request_is_one_span_named_by_its_route_under_the_callers(
    api: Api, db: Database, collector: Collector
) -> None:
    mailing_id = await db.add_mailing()
    headers = {"traceparent": CALLER, "X-Request-ID": "order-17"}
    await api.post(f"/mailings/{mailing_id}/pause/", headers=headers)
    tracing.finish()
    (span,) = collector.spans
    assert (span.trace, span.parent) == tuple(CALLER.split("-")[1:3])
    assert (span.service, span.name) == ("tests", "POST /mailing/api/mailings/{mailing_id}/pause")
    assert (span.kind, span.failed) == ("SERVER", False)
    assert span.attributes == {
        "http.request.method": "POST",
        "http.route": "/mailing/api/mailings/{mailing_id}/pause",
        "http.response.status_code": 200,
        "request_id": "order-17",
        "mailing_id": mailing_id,
    }


@pytest.mark.parametrize("malformed", ["", "00-1-2-01", f"00-{'0' * 32}-{'0' * 16}-01", "ключ"])
async def test_without_a_trace_of_the_callers_a_request_begins_one(
    api: Api, collector: Collector, malformed: str
) -> None:
    await api.get("/clients/", headers=[(b"traceparent", malformed.encode())])
    tracing.finish()
    assert [span.parent for span in collector.spans] == [""]


async def test_the_lines_of_a_request_have_the_id_of_its_trace(
    api: Api, settings: Settings, collector: Collector
) -> None:
    with logged(settings) as lines:
        await api.get("/clients/")
        await api.get("/clients/")
    tracing.finish()
    assert [line["trace_id"] for line in lines("request")] == [span.trace for span in collector.spans]
    assert len({span.trace for span in collector.spans}) == 2


async def test_no_phone_text_or_token_is_sent_to_the_collector(api: Api, db: Database, collector: Collector) -> None:
    """Also where an exception of the database repeats the row, and where the caller puts them in a path or a header."""
    await db.run("ALTER TABLE client ADD CHECK (tag <> 'canary')")
    canary = {"phone": PHONE, "timezone": "UTC", "tag": "canary"}
    assert (await api.post("/clients/", json=canary)).status_code == 500
    await api.get("/clients/", params={"phone": PHONE}, headers={"X-Request-ID": PHONE})
    await api.get(f"/canary/{PHONE}")
    await api.get(f"/clients/{PHONE}/")
    await api.request("CANARY", "/clients/")
    await api.get("/clients/", headers={"Authorization": "Bearer canary-of-a-stranger"})
    tracing.finish()
    told = [(span.attributes["http.response.status_code"], span.failed) for span in collector.spans]
    assert told == [(500, True), *((status, False) for status in (200, 404, 404, 405, 401))]
    assert [span.attributes.get("request_id") for span in collector.spans][1] == "7916***2233"
    assert [secret for secret in (PHONE, "canary", "CANARY", KEY) if secret in collector.received] == []


async def test_machines_that_ask_for_health_and_metrics_leave_no_spans(address: str, collector: Collector) -> None:
    async with httpx.AsyncClient(base_url=address, verify=NO_TLS, trust_env=False) as http:
        for path in ("/health/live", "/health/ready", "/metrics", "/mailing/api/clients/"):
            await http.get(path)
    tracing.finish()
    assert [span.name for span in collector.spans] == ["GET /mailing/api/clients"]


async def test_a_job_is_a_child_of_what_enqueued_it_and_one_that_goes_on_is_linked(
    database_url: str, db: Database, collector: Collector
) -> None:
    """`again` enqueues itself once, as a send run does that other mailings want a turn of."""
    over = asyncio.Event()

    async def first(**_: int) -> None:
        await enqueue(db, "again", round=1)

    async def again(round: int) -> None:  # noqa: A002 - the name of the job's argument
        if round == 2:
            over.set()
            return
        await enqueue(db, "again", round=2)

    queue = Queue(database_url, concurrency=1)
    queue.task("first", first)
    queue.task("again", again)
    await enqueue(db, "first", mailing_id=7)
    stop = asyncio.Event()
    worker = asyncio.create_task(queue.run(stop))
    await asyncio.wait_for(over.wait(), 30)
    stop.set()
    await worker
    tracing.finish()
    one = collector.one("first")
    two, three = collector.named("again")
    assert (one.parent, one.links, one.kind) == ("", [], "CONSUMER")
    assert (one.attributes["mailing_id"], one.attributes["outcome"]) == (7, "done")
    assert (two.trace, two.parent, two.links) == (one.trace, one.id, [])
    assert (three.parent, three.links) == ("", [two.id])
    assert three.trace != one.trace


async def test_a_job_from_a_traced_process_runs_where_traces_are_off(
    database_url: str, db: Database, collector: Collector
) -> None:
    called: asyncio.Queue[dict[str, int]] = asyncio.Queue()

    async def handler(**args: int) -> None:
        await called.put(args)

    with tracing.step("somebody's"):
        await enqueue(db, mailing_id=7)
    tracing.finish()
    assert list((await db.value("SELECT args -> 'trace' FROM procrastinate_jobs")).keys()) == ["parent"]
    queue = Queue(database_url, concurrency=1)
    queue.task("plan", handler)
    stop = asyncio.Event()
    worker = asyncio.create_task(queue.run(stop))
    assert await asyncio.wait_for(called.get(), 30) == {"mailing_id": 7}
    stop.set()
    await worker
    assert [span.name for span in collector.spans] == ["somebody's"]


async def test_a_collector_that_is_away_is_noticed_by_nobody_who_asks(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otel, "FINISH_TIMEOUT_S", 0.5)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    tracing.start("tests", os.environ)
    assert {(await api.get("/clients/")).status_code for _ in range(3)} == {200}
    tracing.finish()
    assert (await api.get("/clients/")).status_code == 200


@pytest.mark.timeout(25)  # the SDK would wait for 30 s
async def test_the_end_waits_for_no_collector_that_keeps_silent(
    api: Api, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracing.finish()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
    tracing.start("tests", os.environ)
    collector.answer.clear()
    await api.get("/clients/")
    tracing.finish()
    assert collector.asked.is_set()
    assert collector.spans == []


def test_nothing_of_opentelemetry_is_imported_where_nobody_wants_traces() -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    unwanted: list[dict[str, str]] = [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        endpoint | {"OTEL_SDK_DISABLED": "true"},
        endpoint | {"OTEL_TRACES_EXPORTER": "none"},
    ]
    source = (
        "import sys, mailing.app, mailing.worker, mailing.observability.tracing as tracing;"
        f"[tracing.start('tests', environ) for environ in {unwanted}];"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", source], check=False, timeout=60).returncode == 0  # noqa: S603 - our own program


def test_a_protocol_that_is_not_spoken_is_refused() -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    with pytest.raises(ConfigurationError) as refused:
        tracing.start("tests", environ)
    assert refused.value.problems == [
        "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf; traces are sent over HTTP only"
    ]


@pytest.mark.parametrize("command", ["api", "worker"])
def test_an_endpoint_without_the_packages_is_refused_with_the_name_of_the_extra(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "mailing.observability.tracing.otel", raising=False)
    monkeypatch.chdir(tmp_path)
    settings = {
        "MAILING_TEST_DATABASE_URL": None,
        "MAILING_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "MAILING_GATEWAY_URL": "http://127.0.0.1:1",
        "MAILING_PORT": str(free_port()),
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
    }
    refused = CliRunner().invoke(cli, [command], env=settings).exception
    assert isinstance(refused, ConfigurationError)
    assert refused.problems == [
        "OTEL_EXPORTER_OTLP_ENDPOINT is set and OpenTelemetry is not installed; pip install 'mailing[otel]'"
    ]


async def test_an_api_process_that_is_asked_to_end_sends_what_it_has(settings: Settings, tmp_path: Path) -> None:
    """Its SDK would have sent it a minute later. What the environment calls the service is what it is called."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with collecting() as collector:
        traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SERVICE_NAME": "campaigns"}
        env = clean_environment(settings, MAILING_PORT=str(port), OTEL_BSP_SCHEDULE_DELAY="60000", **traced)
        async with running(*MAILING, "api", env=env, cwd=tmp_path) as process:
            await until_ready(url, process)
            await asyncio.to_thread(httpx.get, f"{url}/mailing/api/clients/", verify=NO_TLS, trust_env=False)
        assert {(span.service, span.name) for span in collector.spans} == {("campaigns", "GET /mailing/api/clients")}

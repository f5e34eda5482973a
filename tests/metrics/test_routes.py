"""`/metrics` as Prometheus meets it: what it tells, what it never tells, and when the database is away."""

import re

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from mailing.app import POOL_SIZE
from mailing.database.engine import create_engine
from mailing.metrics import routes
from mailing.metrics.repository import DUE, MAX_COUNTED
from mailing.observability.counters import WorkerCounters
from mailing.settings import Settings
from support import ROOT
from support.api import Api, running_api
from support.database import Database

Sample = tuple[str, frozenset[tuple[str, str]]]


class Read(dict[Sample, float]):
    def value(self, name: str, **labels: str) -> float:
        return self[name, frozenset(labels.items())]

    def labels(self, name: str) -> list[dict[str, str]]:
        return [dict(labels) for found, labels in self if found == name]


def parsed(text: str) -> Read:
    families = text_string_to_metric_families(text)
    samples = (sample for family in families for sample in family.samples)
    return Read({(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples})


async def scraped(api: Api) -> Read:
    answer = await api.get("http://test/metrics")
    assert answer.status_code == 200
    return parsed(answer.text)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MAX_AGE_S", -1.0)


async def test_messages_and_mailings_are_counted_by_status(api: Api, db: Database) -> None:
    mailing_id = await db.add_mailing()
    await db.add_mailing(status="paused")
    await db.add_messages(mailing_id, ["pending", "pending", "sent", "failed"])
    found = await scraped(api)
    assert found.value("mailing_mailings", status="running") == 1
    assert found.value("mailing_mailings", status="paused") == 1
    assert found.value("mailing_mailings", status="finished") == 0
    assert found.value("mailing_messages", status="pending") == 2
    assert found.value("mailing_messages", status="sent") == 1


async def test_what_is_due_has_an_age_and_what_waits_a_reason(api: Api, db: Database) -> None:
    _, (due, waits, retried) = await db.add_mailing_of(["pending", "pending", "pending"])
    await db.run("UPDATE mailing SET updated_at = now() - interval '1 h'")
    await db.run("UPDATE message SET due_at = now() - interval '90 s' WHERE id = :id", id=due)
    later = "UPDATE message SET due_at = now() + interval '9 min', wait_reason = :waiting WHERE id = :id"
    await db.run(later, id=waits, waiting="window")
    await db.run(later, id=retried, waiting="retry")
    found = await scraped(api)
    assert 90 <= found.value("mailing_oldest_due_message_age_seconds") < 600
    assert found.value("mailing_messages_due") == 1
    assert found.value("mailing_messages_waiting", reason="window") == 1
    assert found.value("mailing_messages_waiting", reason="retry") == 1
    assert found.value("mailing_messages_waiting", reason="breaker") == 0


async def test_a_resumed_mailing_was_not_late_while_it_was_paused(api: Api, db: Database) -> None:
    mailing_id, _ = await db.add_mailing_of(["pending"], status="paused")
    await db.run("UPDATE message SET due_at = now() - interval '1 h'")
    assert (await scraped(api)).value("mailing_oldest_due_message_age_seconds") == 0
    (await api.post(f"/mailings/{mailing_id}/resume")).raise_for_status()
    assert (await scraped(api)).value("mailing_oldest_due_message_age_seconds") < 1800


async def test_counting_pending_messages_stops_at_a_limit(db: Database) -> None:
    await db.add_mailing_of(["pending"] * (MAX_COUNTED + 2))
    async with db.sessions() as session:
        assert await session.scalar(DUE) == MAX_COUNTED


async def test_the_gateways_state_is_what_all_workers_know(api: Api, db: Database) -> None:
    (await api.patch("/gateway/", json={"rate": 50})).raise_for_status()
    (await api.post("/gateway/stop")).raise_for_status()
    await db.run(
        "UPDATE gateway SET breaker_opened_at = now(), breaker_next_probe_at = now(), breaker_reason_code = 'html'"
    )
    await db.run("UPDATE gateway SET paused_until = now() + interval '1 h'")
    found = await scraped(api)
    assert found.value("mailing_gateway_rate_limit") == 50
    assert found.value("mailing_gateway_stopped") == 1
    assert found.value("mailing_circuit_breaker_open") == 1
    assert 3000 < found.value("mailing_gateway_retry_after_seconds") <= 3600
    assert found.value("mailing_restored") == 0


async def test_what_processes_say_of_a_failover_is_counted(api: Api, db: Database) -> None:
    add = "INSERT INTO witness SELECT gen_random_uuid(), 'worker', 1, :told, :at"
    for told, ago_s in (("ready", 1), ("ready", 2), ("asynchronous", 3), ("newcomer", 60)):
        await db.run(add.replace(":at", f"now() - interval '{ago_s} s'"), told=told)
    found = await scraped(api)
    assert found.value("mailing_failover_verdicts", kind="worker", verdict="ready") == 2
    assert found.value("mailing_failover_verdicts", kind="worker", verdict="asynchronous") == 1
    assert found.value("mailing_failover_verdicts", kind="worker", verdict="newcomer") == 0, "that one has gone"


async def test_what_workers_counted_is_added_up(api: Api, db: Database) -> None:
    for seconds in (0.03, 0.2, 70.0):
        one = WorkerCounters()
        one.observe_call("accepted", seconds)
        await one.flush(db.sessions)
    found = await scraped(api)
    assert found.value("mailing_gateway_calls_total", outcome="accepted") == 3
    assert found.value("mailing_gateway_calls_total", outcome="refused") == 0
    assert found.value("mailing_gateway_call_seconds_bucket", le="0.025") == 0
    assert found.value("mailing_gateway_call_seconds_bucket", le="0.05") == 1
    assert found.value("mailing_gateway_call_seconds_bucket", le="+Inf") == 3
    assert found.value("mailing_gateway_call_seconds_count") == 3
    assert found.value("mailing_gateway_call_seconds_sum") == pytest.approx(70.23)


async def test_jobs_and_connections_are_counted(api: Api) -> None:
    body = {"text": "x", "starts_at": "2026-01-01T00:00:00Z", "ends_at": "2090-01-01T00:00:00Z"}
    (await api.post("/mailings/", json=body)).raise_for_status()
    found = await scraped(api)
    assert found.value("mailing_jobs", task="plan_mailing", state="ready") == 1
    assert found.value("mailing_jobs", task="settle_mailing", state="later") == 1
    assert found.value("mailing_oldest_job_age_seconds") > 0
    assert found.value("mailing_workers") == 0
    assert found.value("mailing_database_connections", part="api", state="busy") >= 1
    assert found.value("mailing_pool_connections", state="size") == POOL_SIZE
    assert found.value("mailing_database_up") == 1
    assert found.value("mailing_database_connections_limit") > found.value("mailing_database_connections_used") >= 1


async def test_a_report_that_failed_is_overdue_and_the_newest_has_an_age(api: Api, db: Database) -> None:
    assert ("mailing_report_age_seconds", frozenset()) not in await scraped(api)
    add = """INSERT INTO report (day, zone, starts, ends, due_at, attempts, sent_at)
        SELECT day, 'UTC', day, day + 1, now(), 1, {} FROM (SELECT current_date - CAST(:ago AS int) AS day) reported"""
    await db.run(add.format("now() - interval '2 h'"), ago=2)
    await db.run(add.format("NULL"), ago=1)
    await db.run("UPDATE report SET due_at = now() + interval '1 h' WHERE sent_at IS NULL")
    found = await scraped(api)
    assert found.value("mailing_reports_overdue") == 1
    assert 7200 <= found.value("mailing_report_age_seconds") < 9000


async def test_requests_are_counted_by_route_and_never_by_what_was_sent(api: Api, db: Database) -> None:
    client_id = await db.add_client()
    await api.get(f"/clients/{client_id}/")
    await api.get("/Clients/4711/")
    for n in range(20):
        await api.request(f"PRY{n}", f"http://test/no/such/{n}")
    found = await scraped(api)
    read_one = {"method": "GET", "route": "/mailing/api/clients/{client_id}"}
    assert found.value("mailing_http_requests_total", **read_one, status="200") == 1
    assert found.value("mailing_http_requests_total", **read_one, status="404") == 1
    assert found.value("mailing_http_request_seconds_count", route="unknown") == 20
    assert {label["method"] for label in found.labels("mailing_http_requests_total")} <= {"GET", "any"}


async def test_without_a_database_the_page_says_so_and_shows_this_process(settings: Settings) -> None:
    async with running_api(settings) as api:
        transport = api._transport  # noqa: SLF001 - the app under it
        state = transport.app.state  # type: ignore[attr-defined] # an ASGITransport
        nowhere = "postgresql://nobody@127.0.0.1:1/none"
        state.sessions.configure(bind=create_engine(nowhere, application="tests", pool_size=1))
        found = await scraped(api)
    assert found.value("mailing_database_up") == 0
    assert found.value("mailing_pool_connections", state="size") == POOL_SIZE
    assert ("mailing_oldest_due_message_age_seconds", frozenset()) not in found


async def test_however_often_it_is_asked_the_database_is_read_once(
    api: Api, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "MAX_AGE_S", 3600)
    before = await scraped(api)
    await db.add_mailing()
    after = await scraped(api)
    assert before.value("mailing_mailings", status="running") == 0
    assert after.value("mailing_mailings", status="running") == 0


async def test_openmetrics_is_spoken_to_whoever_asks_for_it(api: Api) -> None:
    answer = await api.get("http://test/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


async def test_every_metric_is_documented_and_every_documented_one_is_there(settings: Settings, db: Database) -> None:
    """With a provider that sends receipts: without one, their metrics are left out."""
    reported = replace(settings, gateway_provider="kannel", public_url="https://mailing.example.org")
    row = "SELECT current_date, 'UTC', current_date, current_date + 1, now(), now()"
    await db.run(f"INSERT INTO report (day, zone, starts, ends, due_at, sent_at) {row}")
    await db.run("INSERT INTO counter_audit VALUES (:id, now(), 0)", id=await db.add_mailing())
    body = {"text": "x", "starts_at": "2026-01-01T00:00:00Z", "ends_at": "2090-01-01T00:00:00Z"}
    async with running_api(reported) as api:
        (await api.post("/mailings/", json=body)).raise_for_status()
        told = _names((await api.get("http://test/metrics")).text)
    written = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    documented = {
        row[1]: set(re.findall(r"\w+", row[2] or ""))
        for row in re.finditer(r"^\| `(mailing_\w+)(?:\{(.*?)\})?` \|", written, flags=re.MULTILINE)
    }
    assert documented == told


def _names(page_text: str) -> dict[str, set[str]]:
    """Of our own metrics, each with its labels."""
    found: dict[str, set[str]] = {}
    for name, labels in parsed(page_text):
        short = re.sub(r"(_seconds)_(bucket|count|sum)$", r"\1", name)
        if name.startswith("mailing_") and not name.endswith("_created"):
            found.setdefault(short, set()).update(label for label, _ in labels if label != "le")
    return found

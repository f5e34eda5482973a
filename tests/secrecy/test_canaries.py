"""A whole campaign with everything that goes wrong, 1,000 phones and 50 secrets: none turns up where it must not."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailing.settings import Settings
from secrecy.canaries import Canaries
from secrecy.echo import Echo, echoing
from secrecy.people import People, err, give_access, sign_in, sign_in_through_the_provider
from secrecy.places import Seen, looking
from secrecy.site import PATIENCE_S, Processes, own_roles, secretive
from support.database import Database
from support.mail_server import PostOffice, open_post_office
from support.processes import until

PHONES = 1000
SECRETS = 50
LOSE_LEASES = "UPDATE message SET lease_until = now() - interval '1 s' WHERE status = 'sending'"
TERMINATE = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'mailing-%'"""


@dataclass
class Stage:
    canaries: Canaries
    echo: Echo
    office: PostOffice
    processes: Processes
    people: People
    seen: Seen
    db: Database


@pytest.fixture
async def stage(settings: Settings, database_url: str, db: Database, tmp_path: Path) -> AsyncIterator[Stage]:
    canaries = Canaries(PHONES)
    async with (
        echoing() as echo,
        open_post_office(tls=True, auth=True) as office,
        own_roles(database_url, canaries) as addresses,
        looking(database_url) as seen,
    ):
        everything = secretive(settings, canaries, gateway=echo.url, smtp_port=office.port)
        processes = Processes(tmp_path, everything, addresses)
        apis = []
        try:
            apis = [await processes.serve("api-json", log_format="json"), await processes.serve("api-console")]
            people = People(apis, canaries, keys=[str(everything.api_key)])
            yield Stage(canaries, echo, office, processes, people, seen, db)
        finally:
            await processes.end()
            await asyncio.gather(*(api.aclose() for api in apis))


@pytest.mark.heavy
@pytest.mark.timeout(600)  # a minute of work; the rest is patience with a busy machine
async def test_no_secret_phone_or_text_turns_up_where_it_must_not(stage: Stage, db: Database) -> None:
    canaries, people, processes = stage.canaries, stage.people, stage.processes
    texts, unstorable = [canaries.new("text") for _ in range(3)], canaries.new("text")
    await stage.db.run(f"ALTER TABLE mailing ADD CHECK (text <> '{unstorable}')")
    for name, password in await give_access(db, people, keys_count=16, users_count=4):
        await sign_in(people, name, password)
    await sign_in_through_the_provider(people)
    await import_clients(people)
    mailing = await send(stage, texts)
    await err(people, phones=canaries.phones, texts=texts, unstorable=unstorable)
    await processes.start("report", "report", "--date", "2026-01-02")
    await processes.running["report"].wait()
    places = stage.seen.places | people.refusals | await pages(people, mailing)
    await processes.end()
    assert_everything_was_tried(stage)
    assert len(canaries) >= SECRETS
    assert canaries.found_in(places | processes.logs) == []


async def import_clients(people: People) -> None:
    rows = "".join(f"{phone},UTC\n" for phone in people.canaries.phones)
    bad = "".join(f"{phone[:-1]},{phone}\n{phone},\n" for phone in people.canaries.phones[:50])
    answer = await people.post("/clients/import", content=f"phone,timezone\n{rows}{bad}", headers=people.idempotent())
    assert (answer.status_code, answer.json()["created"], answer.json()["rejected"]) == (200, PHONES, 100)


async def send(stage: Stage, texts: list[str]) -> int:
    """While the database refuses rows, a worker is killed, connections are cut, and the text changes."""
    people, processes = stage.people, stage.processes
    await stage.db.run("ALTER TABLE message ADD CONSTRAINT sabotage CHECK (NOT maybe_accepted) NOT VALID")
    await processes.start("worker-json", "worker", log_format="json")
    await processes.start("worker-console", "worker")
    mailing = await people.mailing(texts[0])
    await happens(lambda: "result refused" in str(processes.logs))
    await stage.db.run(LOSE_LEASES)  # the sweep meets the constraint, too
    await happens(lambda: "lease refused" in str(processes.logs))
    await stage.db.run("ALTER TABLE message DROP CONSTRAINT sabotage")
    await stage.db.run(LOSE_LEASES)
    await happens(lambda: stage.echo.calls.total() > 200)
    await processes.kill("worker-json")
    await stage.db.run(LOSE_LEASES)
    await stage.db.run(TERMINATE)
    await people.ask("PATCH", f"/mailing/api/mailings/{mailing}/", json={"text": texts[1]})
    await people.post(f"/mailings/{mailing}/test", json={"phone": people.canaries.phones[0], "text": texts[2]})
    await processes.start("worker-json", "worker", log_format="json")
    await finished(stage, mailing)
    return mailing


async def finished(stage: Stage, mailing: int) -> None:
    async def is_finished() -> bool:
        found = await stage.db.value("SELECT status FROM mailing WHERE id = :id", id=mailing) == "finished"
        if not found:
            await stage.db.run(LOSE_LEASES)  # of the worker that was killed
        return bool(found)

    await until(is_finished, seconds=PATIENCE_S, every_s=5)


async def happens(condition: Callable[[], bool]) -> None:
    await until(condition, seconds=PATIENCE_S, every_s=0.1)


async def pages(people: People, mailing: int) -> dict[str, str]:
    """Read what is visible to users who may not see phones: metrics and events."""
    metrics = {f"metrics {number}": (await api.get("/metrics")).text for number, api in enumerate(people.apis)}
    assert all("mailing_gateway_calls_total" in told for told in metrics.values())
    whose = [{"mailing_id": mailing}, *({"client_id": client} for client in (1, 2, 1000))]
    return metrics | {f"events {of}": await story(people, of) for of in whose}


async def story(people: People, of: dict[str, int]) -> str:
    told, params = "", dict[str, int | str](of, limit=500)
    while "cursor" not in params or params["cursor"]:
        page = (await people.get("/events/", params=params)).json()
        told += str(page["items"])
        params["cursor"] = page["next_cursor"]
    assert "'kind'" in told
    return told


def assert_everything_was_tried(stage: Stage) -> None:
    """Else nothing found would mean nothing."""
    logs, heard = stage.processes.logs, str(stage.canaries.found_in({"heard": " ".join(stage.echo.heard)}))
    assert set(stage.echo.calls) >= set(stage.canaries.phones)
    for kind in ("MAILING_GATEWAY_TOKEN", "MAILING_OIDC_CLIENT_SECRET", "OIDC code", "text", "phone"):
        assert kind in heard
    assert stage.office.conversations == 0  # the password was refused
    assert stage.people.statuses >= {200, 201, 400, 401, 404, 409, 500}
    assert stage.seen.looks > 10
    assert all(stage.seen.places.values())
    assert set(logs) == {
        f"{name}.log" for name in ("api-json", "api-console", "worker-json", "worker-console", "report")
    }
    assert all(
        '"event":"request"' in logs[name] or "request " in logs[name] for name in ("api-json.log", "api-console.log")
    )
    assert "permission denied" not in str(logs)
    for event in ("breaker opened", "unexpected error", "report attempted", "leases reclaimed"):
        assert event in str(logs), event


def test_what_sings_is_found_plain_in_base64_and_inside_a_line() -> None:
    canaries = Canaries(2)
    secret = canaries.new("password")
    coded = base64.b64encode(f"\0postman\0{secret}".encode()).decode()
    places = {"a": f"x{secret}y", "b": f"AUTH PLAIN {coded}", "c": f'"phone": {canaries.phones[1]}', "d": "7916***4567"}
    assert canaries.found_in(places) == ["a: password 1", "b: password 1, in base64", "c: phone"]

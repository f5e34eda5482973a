"""`Idempotency-Key` over the whole API: a repeated POST is answered as the first time and done once."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import pytest
from litestar.routes import HTTPRoute

from mailing.access import api_keys
from mailing.app import authorize
from mailing.database.engine import transaction
from mailing.messages.leases import RetryPolicy
from mailing.sending.sweep import sweep
from mailing.settings import Settings
from mailing.web import idempotency, idempotency_keys
from support.api import Api, bound_app, running_api
from support.client_requests import in_pieces
from support.database import CONFLICT, LOCK_WAITS, Database
from support.proxy import proxy
from support.query_plans import executed, scans

KEY = {"Idempotency-Key": "order-17"}
MAILING = {"text": "Hello", "starts_at": "2030-01-01T00:00:00Z", "ends_at": "2031-01-01T00:00:00Z"}
CLIENT = {"phone": "79161234567", "timezone": "UTC"}
FILE = "phone,timezone\n79161234567,UTC\n79161234568,UTC\n8,UTC\n"
REPLAYED = "idempotent-replayed"


async def mailings(db: Database) -> int:
    return int(await db.value("SELECT count(*) FROM mailing"))


async def stored(db: Database) -> int:
    return int(await db.value("SELECT count(*) FROM idempotency_key"))


def is_repeated(answer: httpx.Response, first: httpx.Response) -> bool:
    assert REPLAYED not in first.headers
    assert (answer.status_code, answer.content) == (first.status_code, first.content)
    own = {"x-request-id": answer.headers["x-request-id"]}  # every request has its own
    assert answer.headers == httpx.Headers({**first.headers, REPLAYED: "true", **own})
    return True


def is_refused(answer: httpx.Response, status: int) -> bool:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    assert REPLAYED not in answer.headers
    return True


# --- again ----------------------------------------------------------------------------------------------------------


async def test_a_repeated_post_is_answered_as_the_first_time_and_done_once(api: Api, db: Database) -> None:
    first = await api.post("/mailings/", json=MAILING, headers=KEY)
    assert (first.status_code, first.headers["location"]) == (201, "/mailing/api/mailings/1/")
    for path in ("/mailings/", "/mailings"):
        assert is_repeated(await api.post(path, json=MAILING, headers=KEY), first)
    assert (await mailings(db), await stored(db)) == (1, 1)


async def test_the_answer_stays_the_first_one_though_things_have_changed(api: Api, db: Database) -> None:
    mailing_id = await db.add_mailing()
    first = await api.post(f"/mailings/{mailing_id}/pause", headers=KEY)
    await api.post(f"/mailings/{mailing_id}/resume")
    assert is_repeated(await api.post(f"/mailings/{mailing_id}/pause", headers=KEY), first)
    assert await db.value("SELECT status FROM mailing") == "running"


async def test_without_the_header_every_post_is_a_new_one_and_nothing_is_stored(api: Api, db: Database) -> None:
    for _ in range(2):
        assert REPLAYED not in (await api.post("/mailings/", json=MAILING)).headers
    assert (await mailings(db), await stored(db)) == (2, 0)


async def test_other_methods_take_no_notice_of_a_key(api: Api, db: Database) -> None:
    await api.post("/mailings/", json=MAILING)
    for _ in range(2):
        assert (await api.patch("/mailings/1", json={"text": "Bye"}, headers=KEY)).status_code == 200
        assert REPLAYED not in (await api.get("/mailings/", headers=KEY)).headers
    assert await stored(db) == 0


async def test_every_post_of_the_api_keeps_its_answer_without_having_to_know(api: Api, db: Database) -> None:
    await db.add_mailing()
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/clients", {"json": CLIENT}),
        ("/clients/import", {"content": FILE}),
        ("/mailings", {"json": MAILING}),
        *((f"/mailings/1/{verb}", {}) for verb in ("pause", "resume", "cancel")),
    ]
    for number, (path, request) in enumerate(requests):
        key = {"Idempotency-Key": f"key-{number}"}
        first = await api.post(path, headers=key, **request)
        assert first.is_success, path
        assert is_repeated(await api.post(path, headers=key, **request), first)


def test_no_route_takes_the_place_of_the_guards_or_of_the_mechanism(settings: Settings) -> None:
    """Litestar runs one `before_request`, the nearest."""
    with bound_app(settings) as app:
        routes = [route for route in app.routes if isinstance(route, HTTPRoute)]
    ours = [route for route in routes if route.path.startswith("/mailing/api/")]
    handlers = [handler for route in ours for handler, _ in route.route_handler_map.values()]
    posts = [handler for handler in handlers if "POST" in handler.http_methods]
    assert len(posts) >= 6
    assert {handler.resolve_before_request() for handler in handlers} == {authorize}
    assert all(idempotency.Idempotency in handler.resolve_middleware() for handler in posts)


async def test_a_path_may_be_written_with_more_slashes(api: Api) -> None:
    address = str(api.base_url.copy_with(path="//mailing//api/clients"))
    first = await api.post(address, json=CLIENT, headers=KEY)
    assert first.status_code == 201
    assert is_repeated(await api.post(address, json=CLIENT, headers=KEY), first)


async def test_an_import_is_repeated_without_work_and_compared_to_its_last_byte(api: Api, db: Database) -> None:
    first = await api.post("/clients/import", content=FILE, headers=KEY)
    assert (first.status_code, first.json()["created"], first.json()["rejected"]) == (200, 2, 1)
    await db.run("DELETE FROM client")
    assert is_repeated(await api.post("/clients/import", content=in_pieces(FILE, 1), headers=KEY), first)
    assert await db.value("SELECT count(*) FROM client") == 0
    assert is_refused(await api.post("/clients/import", content=FILE + "\n", headers=KEY), 422)


async def test_an_import_is_judged_before_a_transaction_begins_and_the_key_is_taken_first_in_it(api: Api) -> None:
    """The server ends a transaction that is idle for as long as the judging of a long file takes."""
    with executed() as ran:
        assert is_refused(await api.post("/clients/import", content="no,header\n" + FILE, headers=KEY), 400)
        assert not any("pg_try_advisory" in statement for statement, _ in ran)
        assert (await api.post("/clients/import", content=FILE, headers=KEY)).status_code == 200
    taken, staged = (
        next(n for n, (statement, _) in enumerate(ran) if words in statement)
        for words in ("pg_try_advisory", "staged_client")
    )
    assert taken < staged


async def test_memory_does_not_grow_with_the_body_whether_it_is_new_or_repeated(api: Api) -> None:
    async def lines(count: int) -> AsyncIterator[bytes]:
        yield b"phone,timezone\n"
        for _ in range(count):
            yield b" " * 49_999 + b"\n"

    async def peak(count: int) -> int:
        tracemalloc.reset_peak()
        key = {"Idempotency-Key": str(count)}
        first, again = [await api.post("/clients/import", content=lines(count), headers=key) for _ in range(2)]
        assert (first.status_code, any(first.json().values())) == (200, False)
        assert is_repeated(again, first)
        return tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        await peak(1)  # whatever is made once
        small, large = await peak(40), await peak(200)
    finally:
        tracemalloc.stop()
    assert large < small + 1_000_000  # the bodies are 2 MB and 10 MB


# --- whose key, and what for ----------------------------------------------------------------------------------------


async def test_a_key_that_was_used_for_another_request_is_refused(api: Api, db: Database) -> None:
    await db.add_mailing()
    as_text = KEY | {"Content-Type": "text/plain"}
    assert (await api.post("/mailings/", json=MAILING, headers=KEY)).status_code == 201
    others = [
        await api.post("/mailings/", json=MAILING | {"text": "Bye"}, headers=KEY),
        await api.post("/mailings/", json=MAILING, headers=as_text),
        await api.post("/mailings/1/pause", json=MAILING, headers=KEY),
        await api.post("/mailings/", content=b"{", headers=KEY),
    ]
    assert all(is_refused(answer, 422) for answer in others)
    assert "Send a new key" in others[0].json()["detail"]
    assert await mailings(db) == 2


async def test_keys_of_one_caller_never_meet_those_of_another(api: Api, db: Database) -> None:
    async with transaction(db.sessions) as session:
        others = [await api_keys.create(session, "shop", by="tests") for _ in range(2)]
    for key in others:
        answer = await api.post("/mailings/", json=MAILING, headers=KEY | {"Authorization": f"Bearer {key}"})
        assert (answer.status_code, REPLAYED in answer.headers) == (201, False)
    assert (await api.post("/mailings/", json=MAILING | {"text": "Bye"}, headers=KEY)).status_code == 201
    assert (await mailings(db), await stored(db)) == (3, 3)


@pytest.mark.parametrize("key", [b"", b" ", b"a b", b"a\tb", b"x" * 256, "ключ".encode(), b"\xff", b"a\x7f"])
async def test_a_malformed_key_is_named_with_what_it_must_be(api: Api, db: Database, key: bytes) -> None:
    answer = await api.post("/mailings/", json=MAILING, headers={b"Idempotency-Key": key})
    assert is_refused(answer, 400)
    assert answer.json()["errors"] == [{"field": "Idempotency-Key", "message": f"must be {idempotency.RULE}"}]
    assert await mailings(db) == 0


async def test_two_keys_in_one_request_are_refused(api: Api) -> None:
    twice = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert is_refused(await api.post("/mailings/", json=MAILING, headers=twice), 400)


@pytest.mark.parametrize("key", ["x", "x" * 255, '"8e03978e-40d5-43dd-bc93-6894a57f9324"', "!~/?%"])
async def test_whatever_is_visible_is_a_key(api: Api, key: str) -> None:
    first, again = [await api.post("/mailings/", json=MAILING, headers={"Idempotency-Key": key}) for _ in range(2)]
    assert first.status_code == 201
    assert is_repeated(again, first)


async def test_who_asks_is_looked_at_before_the_key(api: Api, db: Database) -> None:
    await api.post("/mailings/", json=MAILING, headers=KEY)
    for key in ("order-17", "not a key"):
        headers = {"Idempotency-Key": key, "Authorization": "Bearer stranger"}
        assert is_refused(await api.post("/mailings/", json=MAILING, headers=headers), 401)
    assert await stored(db) == 1


# --- two at once ----------------------------------------------------------------------------------------------------


async def test_while_the_first_is_in_progress_the_second_is_told_so_at_once(
    api: Api, db: Database, settings: Settings
) -> None:
    mailing_id = await db.add_mailing()
    path = f"/mailings/{mailing_id}/pause"
    async with running_api(settings) as another_process:
        async with db.holding("SELECT FROM mailing FOR UPDATE"):
            waiting = asyncio.create_task(api.post(path, headers=KEY))
            await db.comes(LOCK_WAITS, 1)
            for second in (api, another_process):
                answer = await second.post(path, headers=KEY)
                assert is_refused(answer, 409)
                assert "is in progress" in answer.json()["detail"]
        first = await waiting
        assert is_repeated(await another_process.post(path, headers=KEY), first)


async def test_of_many_at_once_one_makes_the_change(api: Api, db: Database, settings: Settings) -> None:
    async with running_api(settings) as another_process:
        posts = [each.post("/mailings/", json=MAILING, headers=KEY) for each in (api, another_process) * 4]
        answers = await asyncio.gather(*posts)
    assert {answer.status_code for answer in answers} <= {201, 409}
    created = [answer for answer in answers if answer.status_code == 201]
    assert sum(REPLAYED not in answer.headers for answer in created) == 1
    assert {answer.content for answer in created} == {created[0].content}
    assert await mailings(db) == 1


# --- what is not stored ---------------------------------------------------------------------------------------------


async def test_a_refusal_is_not_stored_and_the_same_request_is_judged_anew(api: Api, db: Database) -> None:
    client_id = await db.add_client()
    assert is_refused(await api.post("/clients", json=CLIENT, headers=KEY), 409)
    assert is_refused(await api.post("/clients", json={}, headers=KEY), 400)
    assert is_refused(await api.post("/mailings/99/pause", headers=KEY), 404)
    assert await stored(db) == 0
    await db.run("DELETE FROM client WHERE id = :id", id=client_id)
    answer = await api.post("/clients", json=CLIENT, headers=KEY)
    assert (answer.status_code, REPLAYED in answer.headers) == (201, False)


async def test_what_a_refused_request_had_changed_is_undone(api: Api, db: Database) -> None:
    await db.after_write("client", "RAISE EXCEPTION 'no' USING ERRCODE = 'check_violation'")
    answer = await api.post("/clients/import", content=FILE, headers=KEY)
    assert is_refused(answer, 500)
    assert await db.value("SELECT count(*) FROM client") == 0


async def test_a_body_that_is_too_large_is_refused_as_without_a_key(api: Api) -> None:
    assert is_refused(await api.post("/mailings/", content=b" " * 1_000_001, headers=KEY), 413)
    assert is_refused(await api.post("/mailings/", content=in_pieces(" " * 1_000_001, 1000), headers=KEY), 413)
    over = KEY | {"Content-Length": "200000001"}
    assert is_refused(await api.post("/clients/import", content=b"", headers=over), 413)


# --- the database in trouble ----------------------------------------------------------------------------------------


def is_unavailable(answer: httpx.Response) -> bool:
    assert is_refused(answer, 503)
    assert answer.headers["retry-after"] == "5"
    assert "With the same Idempotency-Key" in answer.json()["detail"]
    return True


@pytest.mark.parametrize("failure", [CONFLICT, "PERFORM pg_terminate_backend(pg_backend_pid())"])
@pytest.mark.parametrize("at_commit", [False, True])
async def test_a_change_that_fails_is_answered_503_and_can_be_repeated(
    api: Api, db: Database, failure: str, at_commit: bool
) -> None:
    await db.after_write("client", failure, at_commit=at_commit)
    assert is_unavailable(await api.post("/clients", json=CLIENT, headers=KEY))
    assert await stored(db) == 0
    await db.run("DROP TRIGGER fail ON client")
    answer = await api.post("/clients", json=CLIENT, headers=KEY)
    assert (answer.status_code, REPLAYED in answer.headers) == (201, False)


async def test_a_commit_whose_answer_is_lost_is_repeated_into_one_change(settings: Settings, db: Database) -> None:
    async with proxy(settings) as (between, through), running_api(through) as api:
        between.cut_after = (b"INSERT INTO idempotency_key", b"COMMIT")
        assert is_unavailable(await api.post("/mailings/", json=MAILING, headers=KEY))
        answer = await once_settled(api)
    assert (answer.status_code, answer.headers["location"]) == (201, "/mailing/api/mailings/1/")
    assert answer.headers[REPLAYED] == "true"
    assert await mailings(db) == 1


async def once_settled(api: Api) -> httpx.Response:
    """PostgreSQL may still be committing."""
    async with asyncio.timeout(30):
        while (answer := await api.post("/mailings/", json=MAILING, headers=KEY)).status_code == 409:  # noqa: ASYNC110 - the answer is what is polled
            await asyncio.sleep(0.02)
    return answer


async def test_a_change_cut_off_before_its_commit_is_made_by_the_repetition(settings: Settings, db: Database) -> None:
    async with proxy(settings) as (between, through), running_api(through) as api:
        between.cut_after = (b"INSERT INTO idempotency_key",)
        assert is_unavailable(await api.post("/mailings/", json=MAILING, headers=KEY))
        answer = await once_settled(api)
    assert (answer.status_code, REPLAYED in answer.headers) == (201, False)
    assert await mailings(db) == 1


# --- pruning --------------------------------------------------------------------------------------------------------

OF_AN_AGE = """
    INSERT INTO idempotency_key (caller, key, request_hash, status, headers, body, created_at)
    SELECT 'key 1 (shop)', age || '-' || n, '', 200, '{}', '', now() - CAST(age AS interval)
    FROM unnest(CAST(:ages AS text[])) age, generate_series(1, :count) n"""


async def test_the_sweep_forgets_what_is_older_than_a_day(db: Database) -> None:
    await db.run(OF_AN_AGE, ages=["25 h", "24 h 1 min", "23 h 59 min", "1 s"], count=3)
    await sweep(db.sessions, RetryPolicy(hold=False, base_s=5, max_s=600))
    left = await db.run("SELECT DISTINCT split_part(key, '-', 1) FROM idempotency_key")
    assert {row[0] for row in left} == {"23 h 59 min", "1 s"}


async def test_pruning_takes_the_oldest_by_the_index_and_no_more_than_asked(db: Database) -> None:
    await db.run(OF_AN_AGE, ages=["30 h", "25 h", "1 h"], count=1000)
    await db.commit(idempotency_keys.delete_expired, count=400)
    assert await db.value("SELECT count(*) FROM idempotency_key WHERE key LIKE '30 h%'") == 600
    assert await stored(db) == 2600
    found = await scans(db.engine, partial(idempotency_keys.delete_expired, count=400))
    assert "idempotency_key_age" in {node.get("Index Name") for node in found}
    assert "Seq Scan" not in {node["Node Type"] for node in found}

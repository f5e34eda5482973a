"""What every route shares, over the whole API; and its parts, where the API has no route to show them."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, get_args

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar import Litestar, Request, get
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.params import CookieParameter, FromPath, HeaderParameter, QueryParameter
from msgspec import structs
from sqlalchemy.engine import make_url

from mailing.app import POOL_SIZE, LowerCaseClients
from mailing.settings import Settings
from mailing.web.pagination import Cursor, decode_cursor, encode_cursor
from mailing.web.parameters import MAX_ID, known_parameters_only
from mailing.web.problems import EXCEPTION_HANDLERS
from support.api import Api, bound_app, running_api
from support.asgi import client_of
from support.database import LOCK_WAITS, Database
from support.database_copies import end_idle_connections
from support.proxy import proxy

MAILING = {"text": "Hello", "starts_at": "2030-01-01T00:00:00Z", "ends_at": "2031-01-01T00:00:00Z"}


def is_problem(answer: httpx.Response, status: int) -> bool:
    """Check that the answer is an RFC 9457 error with the headers of its status."""
    body = answer.json()
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert body.keys() == {"type", "title", "status", "detail", "errors"}
    assert (body["status"], body["type"]) == (status, "about:blank")
    assert body["title"]
    assert body["detail"]
    assert bool(body["errors"]) == (status == 400)
    assert answer.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
    assert answer.headers.get("retry-after") == ("5" if status == 503 else None)
    return True


def named(answer: httpx.Response) -> dict[str, str]:
    assert is_problem(answer, 400)
    return {error["field"]: error["message"] for error in answer.json()["errors"]}


# --- errors ---------------------------------------------------------------------------------------------------------


async def test_every_refusal_is_a_problem_document(api: Api) -> None:
    assert is_problem(await api.post("/mailings/", json={}), 400)
    assert is_problem(await api.get("/mailings/", headers={"Authorization": "Bearer x"}), 401)
    assert is_problem(await api.get("/mailings/1/"), 404)
    assert is_problem(await api.get("/nowhere/"), 404)
    assert is_problem(await api.get("/mailings/x/"), 404)
    assert is_problem(await api.get("/mailings/%00/"), 404)
    assert is_problem(await api.delete("/mailings/"), 405)
    assert is_problem(await api.put("/statistics/"), 405)
    await api.post("/mailings/", json=MAILING)
    assert is_problem(await api.post("/mailings/1/pause"), 409)
    too_large = await api.post("/mailings/", content=b"[" * 1_000_001)
    assert is_problem(too_large, 413)
    assert too_large.json()["detail"] == "The body may have at most 1,000,000 bytes."


async def test_what_is_no_json_object_is_refused_in_every_shape_of_it(api: Api) -> None:
    bodies = [
        *(b"", b"null", b"[]", b"nul", b'"x"', b"{", b"[" * 900_000, b'{"a":' * 100_000, b"\xff", b"\xff\xfe", b"\x00"),
        *(b'"\xed\xa0\x80"', b'{"tag": "\xed\xa0\x80"}', b'{"tag": "\\ud800"}', b"NaN", b'{"text": NaN}'),
        *(b'{"phone": 1e999}', b'{"text": ' + b"7" * 900_000 + b"}"),
    ]
    for body in bodies:
        for route in ("POST /mailings/", "PATCH /mailings/1", "POST /clients", "PUT /clients/1"):
            method, path = route.split()
            assert list(named(await api.request(method, path, content=body))) == ["body"], body[:20]


async def test_the_content_type_of_a_body_does_not_matter(api: Api) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "nonsense"):
        answer = await api.post("/mailings/", content=b'{"text": ""}', headers={"Content-Type": kind})
        assert named(answer).keys() == {"text", "starts_at", "ends_at"}


async def test_a_body_over_the_limit_is_refused_with_and_without_its_length(api: Api) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 60_000

    assert is_problem(await api.post("/mailings/", content=chunks()), 413)
    assert is_problem(await api.post("/mailings/", content=b" " * 1_200_000), 413)
    assert named(await api.post("/mailings/", content=b" " * 900_000)).keys() == {"body"}


@get("/bug")
async def bug() -> None:
    raise RuntimeError("79161234567")


async def test_a_bug_is_answered_without_its_details() -> None:
    async with speaking_to(bug) as client:
        answer = await client.get("/bug")
    assert is_problem(answer, 500)
    assert "79161234567" not in answer.text


# --- parameters -----------------------------------------------------------------------------------------------------


async def test_bad_parameters_are_named_together_with_the_remedy_and_without_the_value(api: Api) -> None:
    limit = "must be 1 to 500, the number of items on a page"
    answer = await api.get("/mailings/?limit=s3cret&cursor=s3cret&status=s3cret")
    assert "s3cret" not in answer.text
    assert named(answer) == {
        "limit": limit,
        "cursor": "must be the next_cursor of the page before",
        "status": "must be a status of a mailing: draft, scheduled, running, paused, finished or cancelled",
    }
    for bad in (
        "0",
        "501",
        "-1",
        "",
        "1.5",
        "%00",
        "9" * 30,
        "9" * 5000,
        "ten",
        "0x10",
        "%F0%9F%92%A9",
        "null",
        "1e1",
        "5.0",
    ):
        assert named(await api.get(f"/mailings/?limit={bad}")) == {"limit": limit}
    for path in ("/mailings/0", "/mailings/-1", f"/mailings/{2**63}", f"/mailings/{'9' * 1000}"):
        assert named(await api.get(path)) == {"mailing_id": "must be an id, 1 or greater"}
    assert is_problem(await api.get(f"/mailings/{MAX_ID}"), 404)


async def test_an_id_is_found_by_its_decimal_digits_only(settings: Settings, api: Api) -> None:
    with bound_app(settings) as app:
        routes = {route.path: route.methods for route in app.routes if ":int}" in route.path}
    assert {path.split("/")[1] for path in routes} == {"mailing", "admin"}
    for path, methods in routes.items():
        for other in ("1_0", "%2B1", "%D9%A3", "01"):
            url = api.base_url.copy_with(raw_path=re.sub("{.*?}", other, path).encode())
            answer = await api.request(min(methods - {"OPTIONS"}), url)
            assert answer.status_code == 404, url


async def test_an_unknown_parameter_is_refused_on_every_route(settings: Settings, api: Api) -> None:
    with bound_app(settings) as app:
        routes = [route for route in app.routes if route.path.startswith("/mailing/api/")]
    assert len(routes) >= 8
    for route in routes:
        path = re.sub(r"\{\w+:int\}", "1", route.path).removeprefix("/mailing/api")
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} & set(getattr(route, "methods", ())):
            fields = named(await api.request(method, f"{path}?operator=916&limti=1", content=b"{"))
            assert fields.keys() >= {"operator", "limti"}, f"{method} {path}"


async def test_an_unknown_parameter_is_named_beside_the_bad_ones_with_those_known(api: Api) -> None:
    assert named(await api.get("/mailings/?stauts=running&limit=0")) == {
        "stauts": "is not a parameter here; known are limit, cursor, status",
        "limit": "must be 1 to 500, the number of items on a page",
    }
    assert named(await api.get("/mailings/1?x=1"))["x"].startswith("is not a parameter")


async def test_a_repeated_parameter_is_refused_and_not_read_as_its_last_value(api: Api) -> None:
    assert named(await api.get("/mailings/?status=paused&status=running&x=1")) == {
        "status": "is given more than once; send one value",
        "x": "is not a parameter here; known are limit, cursor, status",
    }
    assert named(await api.get("/clients/?tag=a&tag=a")).keys() == {"tag"}


async def test_a_parameter_in_another_encoding_is_refused_and_selects_not_just_nothing(api: Api, db: Database) -> None:
    """`вип`, as a program of Windows may encode it."""
    assert named(await api.get("/clients/?tag=%E2%E8%EF&limit=1")) == {"tag": "must be encoded in UTF-8"}
    await db.add_client(tag="\ufffd")
    assert len((await api.get("/clients/?tag=%EF%bf%BD")).json()["items"]) == 1


async def test_the_arguments_a_request_does_not_bring_are_no_parameters(api: Api) -> None:
    for name in ("session", "mailing_id", "data", "request", "state", "self"):
        assert named(await api.patch(f"/mailings/1?{name}=1", content=b"{}")).keys() == {name}


def provided() -> int:
    return 5


@get("/all/{number:int}", guards=[known_parameters_only], dependencies={"cut": Provide(provided, sync_to_thread=False)})
async def all_kinds(  # noqa: PLR0917 - one of each kind
    request: Request[Any, Any, State],
    state: State,
    cut: NamedDependency[int],
    number: FromPath[int],
    plain: Annotated[int, QueryParameter()] = 0,
    aliased: Annotated[int, QueryParameter(name="by-another-name", description="a number")] = 0,
    trace: Annotated[str, HeaderParameter(name="X-Trace")] = "",
    crumb: Annotated[str, CookieParameter(name="crumb")] = "",
) -> dict[str, Any]:
    del request, state, trace, crumb
    return {"cut": cut, "number": number, "plain": plain, "aliased": aliased}


async def test_the_guard_knows_aliases_and_what_is_no_query_parameter() -> None:
    async with speaking_to(all_kinds) as client:
        answer = await client.get("/all/7?plain=1&by-another-name=2")
        assert answer.json() == {"cut": 5, "number": 7, "plain": 1, "aliased": 2}
        known = "is not a parameter here; known are plain, by-another-name"
        for stray in ("aliased", "cut", "number", "request", "state", "trace", "X-Trace", "crumb", "Plain"):
            assert named(await client.get(f"/all/7?{stray}=1")) == {stray: known}
        assert named(await client.get("/all/7?by-another-name=x")) == {"by-another-name": "must be a number"}
        assert named(await client.get("/all/7?by-another-name=x&stray=1")).keys() == {"by-another-name", "stray"}


def speaking_to(*handlers: Any) -> Api:  # noqa: ANN401 - route handlers
    app = Litestar(route_handlers=list(handlers), exception_handlers=EXCEPTION_HANDLERS, logging_config=None)
    return client_of(app)


# --- cursors --------------------------------------------------------------------------------------------------------


@given(st.integers(1, MAX_ID))
def test_a_cursor_gives_back_its_id(number: int) -> None:
    cursor = encode_cursor(number)
    assert decode_cursor(cursor) == number
    assert re.fullmatch(r"[A-Za-z0-9_-]+", cursor)


@given(st.from_regex(get_args(Cursor)[1].pattern, fullmatch=True).filter(lambda text: text.isprintable()))
def test_whatever_has_the_shape_of_a_cursor_is_an_id(cursor: str) -> None:
    assert 0 <= decode_cursor(cursor) < 2**63
    assert encode_cursor(decode_cursor(cursor)) == cursor


async def test_a_broken_cursor_is_refused_on_every_list(db: Database, api: Api) -> None:
    await db.add_mailing()
    good = encode_cursor(1)
    broken = ["", "x", "%00", "=", f"{good}=", good[:-1], f"{good}A", f"%20{good}", f"{good}%0A", "-" * 11, "_" * 11]
    broken += ["%F0%9F%92%A9", "9" * 64, "A" * 5000, "MQ", "LTE", "%ff", "\u0661" * 11, "AAAAAAAAAAB", "gAAAAAAAAAA"]
    for path in ("/clients/", "/mailings/", "/statistics/", "/statistics/1/"):
        assert (await api.get(f"{path}?cursor={good}")).status_code == 200
        for cursor in broken:
            assert list(named(await api.get(f"{path}?cursor={cursor}"))) == ["cursor"], cursor


# --- /Clients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "handled"),
    [
        ("/mailing/api/Clients", "/mailing/api/clients"),
        ("/mailing/api/Clients/", "/mailing/api/clients/"),
        ("/mailing/api/Clients/7/", "/mailing/api/clients/7/"),
        ("/mailing/api/Clients/Clients", "/mailing/api/clients/Clients"),
        ("/mailing/api/clients/7", "/mailing/api/clients/7"),
        ("/mailing/api/ClientsX", "/mailing/api/ClientsX"),
        ("/mailing/api/CLIENTS", "/mailing/api/CLIENTS"),
        ("/other/mailing/api/Clients", "/other/mailing/api/Clients"),
        ("/", "/"),
    ],
)
async def test_clients_as_the_customer_wrote_it_is_clients(asked: str, handled: str) -> None:
    scope = {"type": "http", "path": asked, "raw_path": asked.encode(), "query_string": b"tag=Clients"}
    assert await through_alias(scope) == [scope | {"path": handled, "raw_path": handled.encode()}]


async def test_the_start_and_the_end_of_the_process_pass_the_alias() -> None:
    assert await through_alias({"type": "lifespan"}) == [{"type": "lifespan"}]


async def through_alias(scope: Any) -> list[Any]:  # noqa: ANN401 - ASGI
    """Return what the application is asked."""
    seen: list[Any] = []

    async def app(scope: Any, *_: Any) -> None:  # noqa: ANN401 - ASGI
        seen.append(scope)

    await LowerCaseClients(app)(scope.copy(), None, None)  # type: ignore[arg-type] # neither is used
    return seen


# --- the database in trouble ----------------------------------------------------------------------------------------


async def test_a_used_up_pool_is_answered_503_within_two_seconds(db: Database, api: Api) -> None:
    mailing_id = await db.add_mailing()
    async with db.holding("SELECT FROM mailing FOR UPDATE"):
        waiting = [asyncio.create_task(api.post(f"/mailings/{mailing_id}/pause")) for _ in range(POOL_SIZE)]
        await db.comes(LOCK_WAITS, POOL_SIZE)
        began = time.monotonic()
        assert is_problem(await api.get("/mailings/"), 503)
        assert time.monotonic() - began < 10
    assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}
    assert (await api.get("/mailings/")).status_code == 200


@pytest.mark.parametrize("refused", [False, True], ids=["nothing listens", "the server refuses connections"])
async def test_an_unreachable_database_is_answered_503(settings: Settings, *, refused: bool) -> None:
    server = make_url(str(settings.database_url)) if refused else make_url("postgresql://nobody@127.0.0.1:1")
    url = server.set(database="nothing").render_as_string(hide_password=False)
    nowhere = structs.replace(settings, database_url=url)
    async with running_api(nowhere) as api:
        assert is_problem(await api.get("/mailings/"), 503)
        assert is_problem(await api.get("/mailings/", headers={"Authorization": "Bearer mk_some"}), 503)
        assert is_problem(await api.post("/mailings/", json=MAILING), 503)
        kept = await api.post("/mailings/", json=MAILING, headers={"Idempotency-Key": "order-17"})
        assert is_problem(kept, 503)
        assert "With the same Idempotency-Key" in kept.json()["detail"]
        assert named(await api.post("/mailings/", json={})), "what is wrong with the request needs no database"


async def test_a_database_that_stops_and_comes_back_costs_503s_in_between(settings: Settings) -> None:
    async with proxy(settings) as (between, through), running_api(through) as api:
        assert (await api.get("/mailings/")).status_code == 200
        await between.stop()
        assert is_problem(await api.get("/mailings/"), 503)
        assert is_problem(await api.post("/mailings/", json=MAILING), 503)
        await between.start()
        assert (await api.post("/mailings/", json=MAILING)).status_code == 201


async def test_a_commit_whose_answer_is_lost_is_not_called_undone(settings: Settings, db: Database) -> None:
    async with proxy(settings) as (between, through), running_api(through) as api:
        await api.get("/mailings/")  # draws the key's allowance, whose COMMIT would be the first
        between.cut_after = (b"COMMIT;",)  # not `READ COMMITTED`
        answer = await api.post("/mailings/", json=MAILING)
        assert is_problem(answer, 503)
        assert "The change may have been applied" in answer.json()["detail"]
    await db.comes("SELECT count(*) FROM mailing", 1)


async def test_a_read_only_database_is_answered_503_to_what_writes(db: Database, settings: Settings) -> None:
    name = await db.value("SELECT current_database()")
    await db.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    end_idle_connections()
    async with running_api(settings) as api:
        assert (await api.get("/mailings/")).status_code == 200
        assert is_problem(await api.post("/mailings/", json=MAILING), 503)
        await db.run(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        answers = [await api.post("/mailings/", json=MAILING) for _ in range(POOL_SIZE + 1)]  # each may fail once
        assert answers[-1].status_code == 201

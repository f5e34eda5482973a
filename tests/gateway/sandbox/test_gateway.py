"""The fake gateway keeps the contract, fails as it is told to, and remembers truly."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mailing.gateway.outcome import Outcome
from mailing.gateway.sandbox.app import running
from mailing.gateway.sandbox.behaviour import Behaviour
from support.gateway_calls import gateway, send
from support.plain_http import NO_TLS

ORDER = {"id": 7, "phone": 79161234567, "text": "hello"}
BEARER = {"Authorization": "Bearer any.token.will-do"}


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with running("127.0.0.1", 0, Behaviour()) as bound_port:
        yield bound_port


@pytest.fixture
async def http(port: int) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", verify=NO_TLS, trust_env=False) as client:
        yield client


async def behave(http: httpx.AsyncClient, **fields: object) -> None:
    assert (await http.put("/behaviour", json=fields)).status_code == 200


async def summary(http: httpx.AsyncClient) -> dict[str, Any]:
    return dict((await http.get("/ledger/summary")).json())


FAULTS = {
    "accept": Outcome.accepted,
    "throttle_429": Outcome.throttled,
    "refuse_400": Outcome.refused,
    "soft_refusal": Outcome.soft_refusal,
    "unauthorized_401": Outcome.configuration,
    **dict.fromkeys(("error_500", "garbage", "invalid_http", "hang"), Outcome.ambiguous),
    **dict.fromkeys(("accept_then_drop", "drop", "down"), Outcome.ambiguous),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_is_what_the_client_takes_it_for(http: httpx.AsyncClient, port: int, fault: str) -> None:
    if fault != "accept":
        await behave(http, **{fault: True if fault == "down" else 1}, retry_after_s=9)
    async with gateway(port, timeout_s=0.3 if fault == "hang" else 5.0) as client:
        answer = await send(client)
    assert answer.outcome is FAULTS[fault]
    assert answer.retry_after_s == (9 if fault == "throttle_429" else None)
    counts = await summary(http)
    assert (counts["calls"], counts["accepted"], counts["answers"]) == (1, int(fault.startswith("accept")), {fault: 1})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("id", value) for value in (8, "7", 7.5, True)),
        *(("phone", value) for value in ("79161234567", 7916123456, 89161234567, 791612345678)),
        *(("text", value) for value in (5, None)),
    ],
)
async def test_a_call_against_the_contract_is_refused_with_the_field(
    http: httpx.AsyncClient, field: str, value: object
) -> None:
    answer = await http.post("/v1/send/7", json=ORDER | {field: value}, headers=BEARER)
    assert answer.status_code == 400
    assert field in answer.json()["message"]
    assert (await summary(http))["accepted"] == 0


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"[]", b'{"id":7}', b"[" * 50_000, b"\xff", b'{"id":7,"phone":79161234567,"text":"\xff"}'],
)
async def test_a_body_that_is_no_order_is_refused(http: httpx.AsyncClient, body: bytes) -> None:
    assert (await http.post("/v1/send/7", content=body, headers=BEARER)).status_code == 400


@pytest.mark.parametrize("path", ["seven", "7x", "9223372036854775808", "%D9%A7", "7%00", "+7", "0x7"])
async def test_a_path_that_is_not_the_id_is_refused(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.post(f"/v1/send/{path}", json=ORDER, headers=BEARER)).status_code == 400


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer"}, {"Authorization": "Basic c2VjcmV0"}])
async def test_a_call_without_a_bearer_token_is_unauthorized(http: httpx.AsyncClient, header: dict[str, str]) -> None:
    assert (await http.post("/v1/send/7", json=ORDER, headers=header)).status_code == 401


async def test_a_token_that_is_set_must_be_the_one() -> None:
    async with running("127.0.0.1", 0, Behaviour(), token="right") as port:
        url = f"http://127.0.0.1:{port}/v1/send/7"
        async with httpx.AsyncClient(verify=NO_TLS, trust_env=False) as client:
            for token, status in {"right": 200, "wrong": 401}.items():
                answer = await client.post(url, json=ORDER, headers={"Authorization": f"Bearer {token}"})
                assert answer.status_code == status


async def test_what_the_client_says_is_what_the_ledger_knows(http: httpx.AsyncClient, port: int) -> None:
    chances = {"error_500": 0.1, "throttle_429": 0.1, "refuse_400": 0.1, "soft_refusal": 0.1, "garbage": 0.1}
    await behave(http, **chances, invalid_http=0.05, drop=0.1, accept_then_drop=0.1, seed=1, latency_jitter_s=0.01)
    async with gateway(port, concurrency=32) as client:
        answers = await asyncio.gather(*(send(client, number) for number in range(600)))
    ledger = {item["id"] for item in (await http.get("/ledger?limit=600")).json()["items"]}
    said = {outcome: {n for n, each in enumerate(answers) if each.outcome is outcome} for outcome in Outcome}
    assert said[Outcome.accepted] <= ledger <= said[Outcome.accepted] | said[Outcome.ambiguous]
    assert len(ledger) > len(said[Outcome.accepted]) > 0  # some were accepted and nobody was told


async def test_a_repeated_id_is_recorded_unless_it_is_recognised(http: httpx.AsyncClient, port: int) -> None:
    async with gateway(port) as client:
        await send(client)
        await send(client)
        await behave(http, recognises_ids=True)
        assert (await send(client)).http_status == 409
    items = (await http.get("/ledger/7")).json()["items"]
    assert [(item["seq"], item["repeats"]) for item in items] == [(1, 0), (2, 1)]
    counts = await summary(http)
    assert (counts["calls"], counts["accepted"], counts["unique_ids"], counts["repeated_ids"]) == (3, 2, 1, 1)
    assert counts["answers"] == {"accept": 2, "duplicate": 1}


async def test_the_ledger_is_paged_in_order_and_can_be_emptied(http: httpx.AsyncClient, port: int) -> None:
    async with gateway(port) as client:
        for number in range(1, 6):
            await send(client, number)
    first = (await http.get("/ledger", params={"limit": 3})).json()
    rest = (await http.get("/ledger", params={"limit": 3, "after": first["next_after"]})).json()
    assert [item["id"] for item in first["items"] + rest["items"]] == [1, 2, 3, 4, 5]
    assert rest["next_after"] is None
    assert first["items"][0]["phone"] == 79161234567
    assert first["items"][0]["at"].endswith("Z")
    assert (await http.get("/ledger/6")).status_code == 404
    assert (await http.delete("/ledger")).status_code == 204
    assert (await summary(http))["calls"] == 0
    assert (await http.get("/ledger")).json() == {"items": [], "next_after": None}


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "limit=x", "after=-1", "after=1e9"])
async def test_a_page_that_cannot_be_is_refused(http: httpx.AsyncClient, query: str) -> None:
    assert (await http.get(f"/ledger?{query}")).status_code == 400


async def test_the_behaviour_changes_while_it_runs_and_every_bad_field_is_named(http: httpx.AsyncClient) -> None:
    await behave(http, drop=0.25, latency_s=1, recognises_ids=True, seed=5)
    bad = {"drop": 1.5, "latency_s": -1, "down": "yes", "seed": 0.5, "dorp": 0.1, "hang": None}
    answer = await http.put("/behaviour", json=bad)
    assert answer.status_code == 400
    assert sorted(problem["field"] for problem in answer.json()["errors"]) == sorted(bad)
    shown = (await http.get("/behaviour")).json()
    assert (shown["drop"], shown["latency_s"], shown["hang"], shown["seed"]) == (0.25, 1.0, 0.0, 5)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"\xff":1}', b'{"drop":NaN}', b'{"drop":0.6,"hang":0.6}'])
async def test_a_behaviour_that_cannot_be_is_refused(http: httpx.AsyncClient, body: bytes) -> None:
    answer = await http.put("/behaviour", content=body)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["message"]


async def test_the_latency_is_kept_and_calls_that_overlap_are_counted(http: httpx.AsyncClient, port: int) -> None:
    await behave(http, latency_s=0.2, latency_jitter_s=0.05)
    loop = asyncio.get_running_loop()
    async with gateway(port) as client:
        started = loop.time()
        await asyncio.gather(send(client, 1), send(client, 1), send(client, 2))
        assert loop.time() - started >= 0.15
    assert (await summary(http))["overlapping_calls"] == 1


async def test_a_client_that_leaves_a_hanging_call_ends_it(http: httpx.AsyncClient, port: int) -> None:
    await behave(http, hang=1)
    async with gateway(port, timeout_s=0.1) as client:
        await send(client)
        await asyncio.sleep(0.2)
        await send(client)
    assert (await summary(http))["overlapping_calls"] == 0


async def test_the_page_shows_what_was_accepted_and_escapes_it(http: httpx.AsyncClient) -> None:
    await http.post("/v1/send/7", json=ORDER | {"text": "<script>alert(1)</script>&'\"$x"}, headers=BEARER)
    answer = await http.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;&#x27;&quot;$x" in answer.text
    assert "<script" not in answer.text
    assert "79161234567" in answer.text


async def test_the_ledger_file_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    for repeats in range(2):
        async with running("127.0.0.1", 0, Behaviour(), ledger_path=path) as port, gateway(port) as client:
            await send(client, 1)
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            assert [(line["seq"], line["repeats"]) for line in lines] == [(1, 0), (2, 1)][: repeats + 1]

"""The scripted gateway does what it is told, and its ledger tells the truth about it."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from chaos.gateway.ledger import Ledger, calls_in
from chaos.gateway.reactions import REACTIONS, Control, react
from chaos.gateway.server import Gateway
from mailing.gateway.outcome import Answer, Outcome
from mailing.gateway.sandbox.dialects.dialect import Order
from support import gateway_calls
from support.plain_http import NO_TLS
from support.processes import running, until

SCRIPT = Path(__file__).with_name("server.py")
CERTAINLY_NOT = {Outcome.not_sent, Outcome.refused, Outcome.soft_refusal, Outcome.throttled, Outcome.configuration}


async def ask(port: int, *message_ids: int, timeout_s: float = 20.0) -> list[Answer]:
    """One call after the other, by the product's own client."""
    async with gateway_calls.gateway(port, timeout_s=timeout_s, concurrency=1) as client:
        return [await gateway_calls.send(client, each, time_left_s=timeout_s) for each in message_ids]


async def control(port: int, **changes: object) -> httpx.Response:
    async with httpx.AsyncClient(verify=NO_TLS, trust_env=False) as http:
        return await http.put(f"http://127.0.0.1:{port}/control", json=changes)


@pytest.mark.parametrize("name", sorted(set(REACTIONS) - {"drip"}))
async def test_no_reaction_lets_the_client_be_certain_of_what_is_not_so(
    name: str, gateway: Gateway, ledger: Path
) -> None:
    """A call into a connection that was being closed is not in the ledger at all."""
    await gateway.change({"script": [name], "hang_s": 0.1})
    answers = await ask(gateway.port, *range(1, 14))
    accepted = {call.id for call in calls_in(ledger) if call.accepted_at is not None or name == "duplicate"}
    assert accepted >= {id_ for id_, answer in enumerate(answers, 1) if answer.outcome is Outcome.accepted}
    assert not accepted & {id_ for id_, answer in enumerate(answers, 1) if answer.outcome in CERTAINLY_NOT}


async def test_a_dripping_answer_keeps_the_client_waiting(gateway: Gateway, ledger: Path) -> None:
    await gateway.change({"script": ["drip"]})
    assert [answer.outcome for answer in await ask(gateway.port, 7, timeout_s=2.5)] == [Outcome.ambiguous]
    await until(lambda: not gateway.ledger.under_way)
    assert [call.how for call in calls_in(ledger)] == ["client left"]


async def test_every_status_and_retry_after_go_out_as_they_were_asked_for(gateway: Gateway) -> None:
    async with httpx.AsyncClient(verify=NO_TLS, trust_env=False, base_url=f"http://127.0.0.1:{gateway.port}") as http:
        for number, retry_after in enumerate(["7", "-1", "315360000", "soon", "Wed, 21 Oct 2015 07:28:00 GMT"], 1):
            await gateway.change({"mix": {"status:429": 1.0}, "retry_after": retry_after})
            answer = await http.post(f"/v1/send/{number}", json={"id": number, "phone": 79160000001, "text": "hi"})
            assert (answer.status_code, answer.headers["Retry-After"]) == (429, retry_after)
        await gateway.change({"mode": "status:418"})
        assert (await http.post("/v1/send/9", json={"id": 9, "phone": 1, "text": ""})).status_code == 418


async def test_while_it_refuses_nobody_is_let_in_but_the_control_and_afterwards_it_is_back(gateway: Gateway) -> None:
    await gateway.change({"mode": "hang"})
    asking = asyncio.create_task(ask(gateway.port, 1))
    await until(lambda: gateway.ledger.under_way)
    assert (await control(gateway.control_port, mode="refuse")).status_code == 200
    assert (await asking)[0].outcome is Outcome.ambiguous
    assert (await ask(gateway.port, 2))[0].outcome is Outcome.not_sent
    await control(gateway.control_port, mode="normal")
    assert (await ask(gateway.port, 2))[0].outcome is Outcome.accepted


async def test_a_change_leaves_the_other_fields_and_an_unknown_reaction_is_refused(gateway: Gateway) -> None:
    assert (await control(gateway.port, latency_s=0.5, mix={"hang": 0.1})).status_code == 200
    assert (await control(gateway.port, mix={"drop": 0.2})).json()["latency_s"] == 0.5
    for wrong in ({"mix": {"explode": 1.0}}, {"mix": {"hang": 0.7, "drop": 0.7}}, {"speed": 1}, {"mode": "off"}):
        assert (await control(gateway.port, **wrong)).status_code == 400


async def test_held_answers_wait_for_the_next_mode_and_were_accepted_before(gateway: Gateway, ledger: Path) -> None:
    await gateway.change({"mode": "hold"})
    asking = asyncio.create_task(ask(gateway.port, 1))
    await until(lambda: gateway.ledger.accepted_ids)
    assert calls_in(ledger)[0].ended_at is None
    await gateway.change({"mode": "normal"})
    assert (await asking)[0].outcome is Outcome.accepted


async def test_a_gateway_that_recognises_ids_accepts_each_once(gateway: Gateway, ledger: Path) -> None:
    await gateway.change({"recognises_ids": True, "script": ["accept_then_drop"]})
    assert [answer.outcome for answer in await ask(gateway.port, 1, 1, 1)] == [
        Outcome.ambiguous,
        Outcome.accepted,
        Outcome.accepted,
    ]
    assert [call.accepted_at is not None for call in calls_in(ledger)] == [True, False, False]


async def test_half_a_request_is_broken_and_no_call(gateway: Gateway, ledger: Path) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b'POST /v1/send/1 HTTP/1.1\r\nContent-Length: 90\r\n\r\n{"id":')
    writer.close()
    await until(lambda: b'"event":"broken"' in ledger.read_bytes())
    assert calls_in(ledger) == []


async def test_a_call_lies_between_its_first_byte_and_its_answer(gateway: Gateway, ledger: Path) -> None:
    await gateway.change({"latency_s": 0.05})
    await ask(gateway.port, 1, 1)
    first, second = calls_in(ledger)
    assert first.began_at <= (first.accepted_at or 0) <= (first.ended_at or 0) <= second.began_at
    assert (first.id, first.phone, first.text, first.how) == (
        1,
        int(gateway_calls.PHONE),
        gateway_calls.TEXT,
        "answered 200",
    )


def test_the_same_seed_reacts_alike_in_whatever_order() -> None:
    drawn = Control(mix={"drop": 0.3, "hang": 0.3}, seed=7)
    forth = {(id_, nth): react(drawn, id_, nth) for id_ in range(200) for nth in (1, 2)}
    back = {(id_, nth): react(drawn, id_, nth) for nth in (2, 1) for id_ in reversed(range(200))}
    assert forth == back
    assert {name for name, *_ in forth.values()} == {"drop", "hang", "accept"}


def test_a_ledger_goes_on_where_a_killed_gateway_left_off_and_drops_its_half_line(ledger: Path) -> None:
    before = Ledger(ledger)
    order = Order(5, 79160000001, "hi")
    before.accepted(before.began(order, 1.0), order, 1.5)
    before.close()
    with ledger.open("ab") as file:
        file.write(b'{"n":2,"event":"beg')
    after = Ledger(ledger)
    assert (after.began(order, 2.0), after.calls_of, after.accepted_ids) == (2, {5: 2}, {5: 1})
    after.close()
    assert [(call.n, call.accepted_at) for call in calls_in(ledger)] == [(1, 1.5), (2, None)]


async def test_as_a_process_it_says_its_ports_and_leaves_a_whole_ledger_when_it_is_killed(ledger: Path) -> None:
    async with _process(ledger) as (process, port):
        assert [answer.outcome for answer in await ask(port, 1, 2)] == [Outcome.accepted] * 2
        process.kill()
        await process.wait()
    assert [(call.id, call.how) for call in calls_in(ledger)] == [(1, "answered 200"), (2, "answered 200")]


async def test_as_a_process_it_ends_when_it_is_asked_to_or_left_alone(ledger: Path) -> None:
    async with _process(ledger) as (process, _):
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0
    async with _process(ledger) as (process, _):
        assert process.stdin
        process.stdin.close()
        assert await asyncio.wait_for(process.wait(), 30) == 0


@asynccontextmanager
async def _process(ledger: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    async with running(sys.executable, SCRIPT, "--ledger", ledger, stdin=PIPE, stdout=PIPE) as process:
        assert process.stdout
        yield process, int((await process.stdout.readline()).split()[1])

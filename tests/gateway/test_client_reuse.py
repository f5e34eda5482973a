"""What one connection carries over: nothing. And where a call may go: nowhere but to the gateway."""

import asyncio
from functools import partial
from pathlib import Path

import pytest

from mailing.gateway import http_transport
from mailing.gateway.outcome import Answer, Outcome
from mailing.reasons.codes import ReasonCode
from support.gateway_calls import OK, PHONE, TEXT, Request, answering, calling, keeping, read_request, send
from support.raw_server import serving


async def test_a_connection_closed_as_we_write_is_ambiguous_and_nothing_is_repeated() -> None:
    requests: list[Request] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await read_request(reader))
        writer.write(OK)
        requests.append(await read_request(reader))  # the second request on this connection gets no answer

    async with calling(handler, concurrency=1) as client:
        assert (await send(client, 1)).outcome is Outcome.accepted
        answer = await send(client, 2)
        assert answer == Answer(Outcome.ambiguous, reason=ReasonCode.closed_without_answer)
        assert (await send(client, 3)).outcome is Outcome.accepted
    assert [request.message_id for request in requests] == [1, 2, 3]


async def test_a_connection_closed_while_idle_is_not_used() -> None:
    async with calling(answering(OK)) as client:
        for number in range(3):
            assert (await send(client, number)).outcome is Outcome.accepted
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("is_idle", [True, False], ids=["while idle", "while a turn is awaited"])
async def test_an_answer_nobody_asked_for_is_not_taken_for_the_next_message(is_idle: bool) -> None:
    unasked = asyncio.Event()
    connections: list[list[int]] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append([])
        while True:
            connections[-1].append((await read_request(reader)).message_id)
            writer.write(OK)
            if connections == [[1]]:
                await unasked.wait()
                writer.write(OK.replace(b"0}", b"7}"))

    async def spoil() -> bool:
        unasked.set()
        await asyncio.sleep(0.05)  # until our side has read it
        return True

    async with calling(handler) as client:
        assert (await send(client, 1)).outcome is Outcome.accepted
        if is_idle:
            await spoil()
        second = await client.send(2, phone=PHONE, text=TEXT, time_left_s=60, before_send=spoil)
        assert second == Answer(Outcome.accepted, 200, 0)
        assert (await send(client, 3)).outcome is Outcome.accepted
    assert connections == [[1], [2, 3]]


async def test_an_idle_connection_is_closed_before_common_servers_close_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_transport, "IDLE_CONNECTION_S", 0.05)
    ended = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        assert not await reader.read()
        ended.set()

    async with calling(handler) as client, asyncio.timeout(30):
        assert (await send(client, 1)).outcome is Outcome.accepted
        await ended.wait()
        assert (await send(client, 2)).outcome is Outcome.accepted


@pytest.mark.parametrize("is_kept", [True, False], ids=["kept", "new"])
async def test_a_connection_lost_while_its_turn_is_awaited_is_not_sent_to(is_kept: bool) -> None:
    """Its loss says nothing about the gateway if it was kept from an earlier call: another one takes the message."""
    closing, closed = asyncio.Event(), asyncio.Event()
    connections: list[list[int]] = []

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(ids := [])
        if len(connections) > 1 or is_kept:
            ids.append((await read_request(reader)).message_id)
            writer.write(OK)
        if len(connections) == 1:
            await closing.wait()
            writer.close()
            await writer.wait_closed()
            closed.set()
        await reader.read()

    async def turn() -> bool:
        closing.set()
        await closed.wait()
        await asyncio.sleep(0.05)  # until our side knows
        return True

    async with calling(once) as client:
        if is_kept:
            assert (await send(client, 1)).outcome is Outcome.accepted
        answer = await client.send(2, phone=PHONE, text=TEXT, time_left_s=60, before_send=turn)
        lost = Answer(Outcome.not_sent, reason=ReasonCode.connection_closed)
        assert answer == (Answer(Outcome.accepted, 200, 0) if is_kept else lost)
    assert connections == ([[1], [2]] if is_kept else [[]])


async def test_a_connection_that_idles_too_long_while_turns_are_awaited_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(http_transport, "ticks", lambda: now)
    connections: list[list[int]] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append([])
        while True:
            connections[-1].append((await read_request(reader)).message_id)
            writer.write(OK)

    async def turn(*, permitted: bool) -> bool:
        nonlocal now
        now += 0.75 * http_transport.IDLE_CONNECTION_S
        return permitted

    async with calling(handler) as client:
        for number, permitted in enumerate((True, False, True)):
            before_send = partial(turn, permitted=permitted)
            await client.send(number, phone=PHONE, text=TEXT, time_left_s=60, before_send=before_send)
    assert connections == [[0], [2]]


async def test_what_was_withdrawn_in_its_turn_leaves_the_connection_to_the_next() -> None:
    connections: list[list[int]] = []

    async def no() -> bool:
        return False

    async with calling(keeping(connections)) as client:
        assert (await send(client, 1)).outcome is Outcome.accepted
        assert await client.send(2, phone=PHONE, text=TEXT, time_left_s=60, before_send=no) is None
        assert (await send(client, 3)).outcome is Outcome.accepted
    assert connections == [[1, 3]]


async def test_the_wait_for_its_turn_takes_nothing_from_the_gateways_time() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await asyncio.sleep(0.5)
        writer.write(OK)

    async def turn() -> bool:
        await asyncio.sleep(1.5)
        return True

    async with calling(handler, timeout_s=1.2) as client:
        answer = await client.send(1, phone=PHONE, text=TEXT, time_left_s=60, before_send=turn)
    assert answer is not None
    assert answer.outcome is Outcome.accepted


async def test_a_wait_that_outlasts_the_message_is_no_attempt() -> None:
    async def handler(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        assert not await reader.read()

    async with calling(handler) as client:
        never = asyncio.Event()
        assert await client.send(1, phone=PHONE, text=TEXT, time_left_s=0.3, before_send=never.wait) is None


async def test_an_answer_that_comes_after_its_deadline_is_not_taken_for_the_next_message() -> None:
    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = (await read_request(reader)).message_id == 1
        await asyncio.sleep(0.3 if first else 0)
        writer.write(OK if first else OK.replace(b"0}", b"7}"))

    async with calling(late, concurrency=1) as client:
        assert (await send(client, 1, time_left_s=0.1)).outcome is Outcome.ambiguous
        assert (await send(client, 2)).code == 7


async def test_a_server_that_speaks_first_is_no_gateway() -> None:
    async def eager(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail ready\r\n")
        await reader.read()

    async with calling(eager) as client:
        outcomes = {(await send(client, number)).outcome for number in range(20)}
    assert outcomes <= {Outcome.not_sent, Outcome.ambiguous}  # a race, and both are true


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_and_the_token_stays(status: int) -> None:
    visits: list[Request] = []
    async with serving(answering(OK, visits)) as other_port:
        raw = b"HTTP/1.1 %d Go\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n" % (status, other_port)
        async with calling(answering(raw)) as client:
            answer = await send(client)
    assert (answer.outcome, answer.http_status) == (Outcome.configuration, status)
    assert visits == []


async def test_proxies_and_passwords_of_the_environment_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def proxy(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        pytest.fail(f"the proxy was asked: {await reader.readline()!r}")

    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password something\n")
    monkeypatch.setenv("NETRC", str(netrc))
    requests: list[Request] = []
    async with serving(proxy) as proxy_port:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy_port}")
        async with calling(answering(OK, requests)) as client:
            assert (await send(client)).outcome is Outcome.accepted
    head = requests[0].head
    assert b"\r\nAuthorization: Bearer a.secret.token\r\n" in head
    assert head.lower().count(b"authorization") == 1

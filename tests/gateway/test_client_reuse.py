"""What one connection carries over: nothing. And where a call may go: nowhere but to the gateway."""

import asyncio
from pathlib import Path

import pytest

from mailing.gateway.outcome import Answer, Outcome
from mailing.reasons.codes import ReasonCode
from support.gateway_calls import MakeGateway, Send, StartServer

OK = b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"code":0}'


async def read_head(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))
    return head


async def test_a_connection_closed_as_we_write_is_ambiguous_and_nothing_is_repeated(
    start_server: StartServer, gateway: MakeGateway, send: Send
) -> None:
    heads: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await read_head(reader))
        writer.write(OK)
        heads.append(await read_head(reader))  # the second request on this connection gets no answer

    async with gateway(await start_server(handler), concurrency=1) as client:
        assert (await send(client, 1)).outcome is Outcome.accepted
        answer = await send(client, 2)
        assert answer == Answer(Outcome.ambiguous, reason=ReasonCode.closed_without_answer)
        assert (await send(client, 3)).outcome is Outcome.accepted
    assert [head.split()[1] for head in heads] == [b"/v1/send/1", b"/v1/send/2", b"/v1/send/3"]


async def test_a_connection_closed_while_idle_is_not_used(
    start_server: StartServer, gateway: MakeGateway, send: Send
) -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(OK)

    async with gateway(await start_server(once)) as client:
        for number in range(3):
            assert (await send(client, number)).outcome is Outcome.accepted
            await asyncio.sleep(0.02)


async def test_an_answer_nobody_asked_for_is_not_taken_for_the_next_message(
    start_server: StartServer, gateway: MakeGateway, send: Send
) -> None:
    written = asyncio.Event()

    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_head(reader)
            writer.write(OK)
            await asyncio.sleep(0.02)
            writer.write(OK)
            written.set()

    async with gateway(await start_server(twice)) as client:
        assert (await send(client, 1)).outcome is Outcome.accepted
        await written.wait()
        await asyncio.sleep(0.05)  # in the loop's next turn our side reads it, before any timer
        second = await send(client, 2)
        assert second.outcome is Outcome.not_sent
        assert second.reason is ReasonCode.connection_spoiled
        assert (await send(client, 3)).outcome is Outcome.accepted


async def test_a_connection_lost_while_its_turn_is_awaited_is_not_sent(
    start_server: StartServer, gateway: MakeGateway, send: Send
) -> None:
    closed = asyncio.Event()

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(OK)
        await asyncio.sleep(0.05)
        writer.close()
        await writer.wait_closed()
        closed.set()

    async def turn() -> bool:
        await closed.wait()
        await asyncio.sleep(0.05)  # until our side knows
        return True

    async with gateway(await start_server(once)) as client:
        assert (await send(client, 1)).outcome is Outcome.accepted
        answer = await client.send(2, phone="79161234567", text="t", time_left_s=60, before_send=turn)
        assert answer == Answer(Outcome.not_sent, reason=ReasonCode.connection_closed)
        assert (await send(client, 3)).outcome is Outcome.accepted


async def test_what_was_withdrawn_in_its_turn_leaves_the_connection_to_the_next(
    start_server: StartServer, gateway: MakeGateway, send: Send
) -> None:
    heads: list[list[bytes]] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append([])
        while True:
            heads[-1].append((await read_head(reader)).split()[1])
            writer.write(OK)

    async def no() -> bool:
        return False

    async with gateway(await start_server(handler)) as client:
        assert (await send(client, 1)).outcome is Outcome.accepted
        assert await client.send(2, phone="79161234567", text="t", time_left_s=60, before_send=no) is None
        assert (await send(client, 3)).outcome is Outcome.accepted
    assert heads == [[b"/v1/send/1", b"/v1/send/3"]]


async def test_the_wait_for_its_turn_takes_nothing_from_the_gateways_time(
    start_server: StartServer, gateway: MakeGateway
) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await asyncio.sleep(0.5)
        writer.write(OK)

    async def turn() -> bool:
        await asyncio.sleep(1.5)
        return True

    async with gateway(await start_server(handler), timeout_s=1.2) as client:
        answer = await client.send(1, phone="79161234567", text="t", time_left_s=60, before_send=turn)
    assert answer is not None
    assert answer.outcome is Outcome.accepted


async def test_a_wait_that_outlasts_the_message_is_no_attempt(start_server: StartServer, gateway: MakeGateway) -> None:
    async def handler(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        assert not await reader.read()

    async with gateway(await start_server(handler)) as client:
        never = asyncio.Event()
        assert await client.send(1, phone="79161234567", text="t", time_left_s=0.3, before_send=never.wait) is None


async def test_an_answer_that_comes_after_its_deadline_is_not_taken_for_the_next_message(
    start_server: StartServer, gateway: MakeGateway, send: Send
) -> None:
    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = b"/send/1 " in await read_head(reader)
        await asyncio.sleep(0.3 if first else 0)
        writer.write(OK if first else OK.replace(b"0}", b"7}"))

    async with gateway(await start_server(late), concurrency=1) as client:
        assert (await send(client, 1, time_left_s=0.1)).outcome is Outcome.ambiguous
        assert (await send(client, 2)).code == 7


async def test_a_server_that_speaks_first_is_no_gateway(
    start_server: StartServer, gateway: MakeGateway, send: Send
) -> None:
    async def eager(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail ready\r\n")
        await reader.read()

    async with gateway(await start_server(eager)) as client:
        outcomes = {(await send(client, number)).outcome for number in range(20)}
    assert outcomes <= {Outcome.not_sent, Outcome.ambiguous}  # a race, and both are true


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_and_the_token_stays(
    start_server: StartServer, gateway: MakeGateway, send: Send, status: int
) -> None:
    visits: list[bytes] = []

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(await read_head(reader))
        writer.write(OK)

    other_port = await start_server(elsewhere)

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 %d Go\r\nLocation: http://127.0.0.1:%d/\r\n" % (status, other_port))
        writer.write(b"Content-Length: 0\r\n\r\n")

    async with gateway(await start_server(redirect)) as client:
        answer = await send(client)
    assert (answer.outcome, answer.http_status) == (Outcome.configuration, status)
    assert visits == []


async def test_proxies_and_passwords_of_the_environment_are_not_used(
    start_server: StartServer, gateway: MakeGateway, send: Send, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads: list[bytes] = []

    async def direct(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await read_head(reader))
        writer.write(OK)

    async def proxy(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        pytest.fail(f"the proxy was asked: {await reader.readline()!r}")

    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password something\n")
    monkeypatch.setenv("NETRC", str(netrc))
    proxy_port = await start_server(proxy)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy_port}")
    async with gateway(await start_server(direct)) as client:
        assert (await send(client)).outcome is Outcome.accepted
    assert b"\r\nAuthorization: Bearer a.secret.token\r\n" in heads[0]
    assert heads[0].lower().count(b"authorization") == 1

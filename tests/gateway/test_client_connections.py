"""Where a call ends: before the connection, on it, after writing, or at its deadline."""

import asyncio
import resource
import socket
import struct
import time

import pytest

from mailing.gateway.client import GatewayClient
from mailing.gateway.outcome import Answer, Outcome
from mailing.gateway.providers.probe import Probe
from mailing.reasons.codes import ReasonCode
from mailing.settings import Settings
from support.gateway_calls import OK, PHONE, TEXT, calling, gateway, keeping, read_request, send
from support.logs import logged

FOREVER_S = 3600.0


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await read_request(reader)
    await asyncio.sleep(FOREVER_S)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the other side sees a reset, not an end."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def test_a_refused_connection_is_not_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    async with gateway(port) as client:
        assert await send(client) == Answer(Outcome.not_sent, reason=ReasonCode.connection_refused)


async def test_a_worker_that_can_open_no_connection_has_not_called_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mailing.gateway.client.SHORTAGE_PAUSE_S", 0)
    usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with gateway(1) as client:
        with logged(Settings()) as lines:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, most))
            try:
                answers = [await client.send(7, phone=PHONE, text=TEXT, time_left_s=60) for _ in range(2)]
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (usual, most))
            (line,) = lines("no resources for a call")
        assert (await send(client)).outcome is Outcome.not_sent
    assert answers == [None, None]
    assert (line["error"], "ulimit -n" in line["remedy"]) == ("EMFILE", True)


async def test_a_name_that_does_not_resolve_is_not_sent() -> None:
    too_long = ".".join(["a" * 60] * 5)  # refused by the resolver itself: no packet leaves the machine
    async with GatewayClient(Probe(Settings()), base_url=f"http://{too_long}/v1", timeout_s=2, concurrency=1) as client:
        assert await send(client) == Answer(Outcome.not_sent, reason=ReasonCode.name_not_resolved)


async def test_a_reset_after_writing_is_ambiguous() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        reset(writer)

    async with calling(handler) as client:
        assert await send(client) == Answer(Outcome.ambiguous, reason=ReasonCode.connection_reset)


async def test_a_reset_of_the_fresh_connection_is_never_an_answer() -> None:
    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reset(writer)

    async with calling(handler) as client:
        assert (await send(client)).outcome in (Outcome.ambiguous, Outcome.not_sent)  # a race, and both are true


async def test_no_answer_by_the_deadline_is_ambiguous() -> None:
    async with calling(hang, timeout_s=0.4) as client:
        assert await send(client) == Answer(Outcome.ambiguous, reason=ReasonCode.no_answer, facts={"within_s": 0.4})
        assert await send(client, time_left_s=0.3) == Answer(
            Outcome.ambiguous, reason=ReasonCode.no_answer, facts={"within_s": 0.3}
        )


async def test_a_dripping_body_ends_at_the_deadline() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for byte in OK[:-10] + b" " * 10:
            writer.write(bytes([byte]))
            await asyncio.sleep(0 if byte != 32 else 0.5)

    async with calling(drip, timeout_s=2.0) as client:
        assert await send(client) == Answer(
            Outcome.ambiguous, 200, reason=ReasonCode.no_complete_answer, facts={"within_s": 2.0}
        )


@pytest.mark.parametrize("head", [b"Content-Length: 1000000000", b"Transfer-Encoding: chunked", b"X-Until: close"])
async def test_a_gigabyte_is_not_read(head: bytes) -> None:
    written = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
        while written < 1_000_000_000:
            writer.write(b"10000\r\n" + bytes(65_536) + b"\r\n")
            await writer.drain()
            written += 65_536

    async with calling(flood) as client:
        answer = await send(client)
    assert answer == Answer(Outcome.ambiguous, 200, reason=ReasonCode.answer_too_long, facts={"max_bytes": 65536})
    assert written < 20_000_000  # what the two socket buffers swallow


async def test_without_time_left_nothing_is_written() -> None:
    connections: list[list[int]] = []

    async def freeze() -> bool:
        time.sleep(0.1)  # noqa: ASYNC251 - the process is frozen between its claim and its call
        return True

    async with calling(keeping(connections)) as client:
        assert (await send(client, 1)).outcome is Outcome.accepted
        for time_left_s in (0.0, -5.0):
            assert await client.send(2, phone=PHONE, text=TEXT, time_left_s=time_left_s) is None
        assert await client.send(3, phone=PHONE, text=TEXT, time_left_s=0.05, before_send=freeze) is None
        await asyncio.sleep(0.05)
    assert connections == [[1]]


async def test_waiting_for_a_free_connection_is_not_sent() -> None:
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await hang(reader, writer)

    async with calling(handler, timeout_s=0.3, concurrency=1) as client:
        first = asyncio.ensure_future(send(client, 1))
        await asyncio.sleep(0.05)
        second = await send(client, 2, time_left_s=0.1)
        assert second == Answer(Outcome.not_sent, reason=ReasonCode.no_free_connection, facts={"within_s": 0.1})
        assert (await first).outcome is Outcome.ambiguous
    assert connections == 1


async def test_no_more_connections_than_allowed_are_opened_and_all_are_kept() -> None:
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await read_request(reader)
            await asyncio.sleep(0.005)
            writer.write(OK)

    async with calling(handler, concurrency=3) as client:
        answers = await asyncio.gather(*(send(client, number) for number in range(60)))
    assert {answer.outcome for answer in answers} == {Outcome.accepted}
    assert connections == 3


async def test_a_cancelled_call_frees_its_connection() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (await read_request(reader)).message_id == 1:
            await asyncio.sleep(FOREVER_S)
        writer.write(OK)

    async with calling(handler, concurrency=1) as client:
        call = asyncio.ensure_future(send(client, 1))
        await asyncio.sleep(0.05)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await send(client, 2)).outcome is Outcome.accepted


async def test_outside_of_its_context_the_gateway_is_a_bug() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await send(gateway(1))

"""The answers fuzz: whatever bytes a gateway sends, each call ends as a value, by its deadline, and nothing piles up.

PYTHONPATH=tests python -m chaos.gateway.fuzz --count 100000 --seed 1
"""

import argparse
import asyncio
import http.client
import io
import json
import resource
import sys
import time
from collections import Counter
from contextlib import suppress

import msgspec
import uvloop

from chaos.gateway.random_replies import Reply, draw
from mailing.gateway.client import GatewayClient
from mailing.gateway.outcome import Outcome
from mailing.reasons.codes import words_of
from support.gateway_calls import calling, read_request

DEADLINE_S = 0.5
CONCURRENCY = 64
FIRST_ID = 1


class Result(msgspec.Struct):
    """`untrue` are calls counted as accepted whose reply doesn't say so to another parser."""

    outcomes: Counter[str] = msgspec.field(default_factory=Counter)
    untrue: list[int] = msgspec.field(default_factory=list)
    escaped: list[str] = msgspec.field(default_factory=list)
    longest_s: float = 0.0
    grown_kb: int = 0


async def fuzz(*, count: int, seed: int) -> Result:
    """Serve reply n to the call with id n."""
    result, numbers = Result(), iter(range(count))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(RuntimeError):  # uvloop's for a transport that is closing
            while await _answer(reader, writer, seed):
                pass

    async with calling(answer, timeout_s=DEADLINE_S, concurrency=CONCURRENCY) as gateway:

        async def call_all() -> None:
            for number in numbers:
                await _call(gateway, number, seed, result)
                if number == count // 5:
                    result.grown_kb = -_memory_kb()

        await asyncio.gather(*(call_all() for _ in range(CONCURRENCY)))
    result.grown_kb += _memory_kb()
    return result


async def _call(gateway: GatewayClient, number: int, seed: int, result: Result) -> None:
    began = time.monotonic()
    try:
        answer = await gateway.send(FIRST_ID + number, phone="79161234567", text="t", time_left_s=60)
    except Exception as error:  # noqa: BLE001 - that none escapes is what is tested
        result.escaped.append(f"reply {number}: {type(error).__name__}: {error}")
        return
    result.longest_s = max(result.longest_s, time.monotonic() - began)
    if answer is None or not words_of(answer.full_reason).isprintable():
        result.escaped.append(f"reply {number}: {answer}")
    elif answer.outcome is Outcome.accepted and not says_accepted(draw(seed, number)):
        result.untrue.append(number)
    result.outcomes[answer.outcome if answer else "none"] += 1


def says_accepted(reply: Reply) -> bool:
    """By Python's own HTTP and JSON parsers, which share no code with the client's."""
    head, _, rest = b"".join(reply.pieces).partition(b"\r\n\r\n")
    while head.startswith(b"HTTP/1.1 1"):  # what is said before the final answer
        head, _, rest = rest.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1][:3] if b" " in head else b""
    if status == b"409":
        return True
    if not status.startswith(b"2"):
        return False
    with suppress(http.client.HTTPException, ValueError, RecursionError, OSError):
        body = _body(b"HTTP/1.1" + head[8:] + b"\r\n\r\n" + rest)  # http.client refuses other versions
        value = json.loads(body)
        return isinstance(value, dict) and type(value.get("code")) is int and value["code"] == 0
    return False


def _body(whole: bytes) -> bytes:
    class Socket:
        def makefile(self, _mode: str) -> io.BytesIO:
            return io.BytesIO(whole)

    response = http.client.HTTPResponse(Socket(), method="POST")  # type: ignore[arg-type] # all it asks of a socket
    response.begin()
    return response.read(1_000_000)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seed: int) -> bool:
    """Return whether the connection is kept."""
    reply = draw(seed, (await read_request(reader)).message_id - FIRST_ID)
    for piece in reply.pieces:
        writer.write(piece)
        await writer.drain()
        if reply.pause_s:
            await asyncio.sleep(reply.pause_s)
    if reply.then == "reset":
        writer.transport.abort()
    if reply.then == "hang":
        await asyncio.sleep(2 * DEADLINE_S)
    return reply.then == "keep"


def _memory_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--count", type=int, default=100_000)
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    began = time.monotonic()
    result = uvloop.run(fuzz(count=chosen.count, seed=chosen.seed))
    print(f"{chosen.count} replies, seed {chosen.seed}, {time.monotonic() - began:.0f} s")
    print(json.dumps(msgspec.to_builtins(result), indent=1))
    sys.exit(1 if result.escaped or result.untrue else 0)


if __name__ == "__main__":
    main()

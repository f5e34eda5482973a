"""What a stranger can do to one API process over its port: bounded floods, and what memory and answers did meanwhile.

Each flood is a coroutine that takes the server's address. `watched` runs one, while somebody else asks for
/health/live all the time.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MEGABYTE = 2**20
SIGN_IN = b"name=nobody&password=a-wrong-password"
FORM = b"Content-Type: application/x-www-form-urlencoded\r\nSec-Fetch-Site: same-origin\r\n"
BUNDLE = "/static/vendor/swagger-ui-dist-5.35.0/swagger-ui-bundle.js"
MANY_PARAMETERS = "&".join(f"{each:x}=1" for each in range(6000))
MANY_COOKIES = MANY_PARAMETERS.replace("&", ";").encode() + b"\r\n"
MANY_FIELDS = b"&".join(b"%x=1" % each for each in range(100_000))
STALL_S = 3.0
SETTLED_S = 1.0

Flood = Callable[[int], Awaitable[None]]


@dataclass(frozen=True)
class Seen:
    """`grown` bytes of resident memory at the most, `waited_s` the longest wait of those who asked meanwhile."""

    grown: int
    waited_s: float
    answered: int


async def watched(flood: Flood, *, port: int, pid: int) -> Seen:
    before = resident(pid)
    watcher = asyncio.create_task(asyncio.to_thread(_watch, port, pid, stop := _Stop()))
    try:
        await flood(port)
    finally:
        stop.told = True
        most, waited_s, answered = await watcher
    return Seen(most - before, waited_s, answered)


class _Stop:
    told = False


def resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def _watch(port: int, pid: int, stop: _Stop) -> tuple[int, float, int]:
    """In a thread of its own: the flood's own work must not be taken for the server's."""
    most, waited_s, answered, is_last = resident(pid), 0.0, 0, False
    while not is_last:
        is_last = stop.told  # one more time after the flood: some floods end within a millisecond
        began = time.monotonic()
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10) as asking:
            asking.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answered += b" 200 " in asking.recv(1000)
        waited_s = max(waited_s, time.monotonic() - began)
        most = max(most, resident(pid))
        time.sleep(0.02)
    return most, waited_s, answered


async def _send(port: int, *parts: bytes, repeat: bytes = b"", until: int = 0, receive_buffer: int = 0) -> None:
    """`repeat` until so many bytes are sent or the server has ended the connection; then what it has to say."""
    writer = None
    with suppress(OSError):
        reader, writer = await _connected(port, receive_buffer)
        for part in parts:
            writer.write(part)
            await writer.drain()
        sent = 0
        while sent < until:
            writer.write(repeat)
            await writer.drain()
            sent += len(repeat)
        async with asyncio.timeout(STALL_S):
            await reader.read()
    if writer:
        writer.transport.abort()


async def _connected(port: int, receive_buffer: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    made = socket.socket()
    made.setblocking(False)
    if receive_buffer:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
    return await asyncio.open_connection(sock=made, limit=1000)


async def _hold(port: int, requests: Iterable[bytes]) -> None:
    """Open connections that send a request and read nothing."""
    held = []
    for request in requests:
        with suppress(OSError):
            reader, writer = await _connected(port, receive_buffer=4096)
            reader._transport.pause_reading()  # type: ignore[attr-defined] # noqa: SLF001 - there is no other way
            held.append(writer)
            writer.write(request)
    await _until_nothing_is_taken(held)
    for writer in held:
        writer.transport.abort()


async def _until_nothing_is_taken(held: Sequence[asyncio.StreamWriter]) -> None:
    """Wait until the server has read no more for SETTLED_S."""
    left, since = -1, time.monotonic()
    while time.monotonic() - since < SETTLED_S:
        await asyncio.sleep(0.1)
        if (now := sum(writer.transport.get_write_buffer_size() for writer in held)) != left:
            left, since = now, time.monotonic()


def head(method: str, path: str, *lines: bytes) -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n".encode() + b"".join(lines) + b"\r\n"


def endless(begun: bytes, more: bytes) -> Flood:
    return lambda port: _send(port, begun, repeat=more, until=60 * MEGABYTE)


def at_once(request: bytes, count: int) -> Flood:
    async def flood(port: int) -> None:
        await asyncio.gather(*(_send(port, request) for _ in range(count)))

    return flood


def in_turn(request: Callable[[int], bytes], count: int) -> Flood:
    """Each is another one: what the server remembers of them must not add up."""

    async def flood(port: int) -> None:
        for number in range(count):
            await _send(port, request(number))

    return flood


def held(request: bytes, count: int) -> Flood:
    return lambda port: _hold(port, [request] * count)


def form(path: str, body: bytes, *lines: bytes) -> bytes:
    return head("POST", path, f"Content-Length: {len(body)}\r\n".encode(), FORM, *lines) + body


CLOSE = b"Connection: close\r\n"
CHUNKED = head("POST", "/admin/sign-in", b"Transfer-Encoding: chunked\r\n", FORM)
REFUSED = head("POST", "/mailing/api/clients", b"Content-Length: 10000000\r\n")  # answered 401 without reading the body
FLOODS: dict[str, Flood] = {
    "trailers": endless(CHUNKED + b"0\r\n", b"x: yyyyyyyy\r\n" * 5000),
    "long_trailer": endless(CHUNKED + b"0\r\nx: ", b"y" * 65536),
    "chunk_extension": endless(CHUNKED + b"1;", b"y" * 65536),
    "pipelined_head": endless(form("/admin/sign-in", SIGN_IN) * 20 + b"GET / HTTP/1.1\r\nX-Long: ", b"x" * 65536),
    "pipelined_requests": at_once(head("GET", "/health/ready") * 20_000, 20),
    "many_fields": at_once(form("/admin/preferences", MANY_FIELDS, CLOSE), 5),
    "distinct_forms": in_turn(lambda n: form("/admin/preferences", b"a%d=" % n + b"x" * 900_000, CLOSE), 100),
    "distinct_queries": in_turn(lambda n: head("GET", f"/admin/sign-in?next={n}&{MANY_PARAMETERS}", CLOSE), 300),
    "distinct_cookies": in_turn(
        lambda n: head("GET", "/admin/sign-in", b"Cookie: a=%d;" % n + MANY_COOKIES, CLOSE), 300
    ),
    "many_header_fields": held(b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 8000, 400),
    "refused_bodies": held(REFUSED + b"x" * 400_000, 400),
    "slow_readers": held(head("GET", BUNDLE), 200),
    "idle_connections": held(b"", 950),
    "slow_heads": held(b"GET / HTTP/1.1\r\n", 950),
    "bodies_that_do_not_come": held(head("POST", "/admin/sign-in", b"Content-Length: 100\r\n", FORM), 950),
}

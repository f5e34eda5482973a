"""A gateway and an identity provider that are as indiscreet as can be: what they were sent stands in their answers."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from support.gateway_calls import Request, read_request
from support.raw_server import serving

Manner = Callable[[Request], bytes]


def answer(status: str, body: bytes | str, *headers: str) -> bytes:
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(content)}"]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content


def accept(_: Request) -> bytes:
    return answer("200 OK", '{"code":0,"message":"OK"}')


def message(request: Request) -> str:
    return json.dumps({"code": 17, "message": request.words})


# How often, of 1,000 calls; the rest is accepted. Where nothing is written the call runs into its timeout.
MANNERS: Final[dict[Manner, int]] = {
    lambda request: answer("500 Internal Server Error", message(request)): 50,
    lambda request: answer("502 Bad Gateway", f"<html><h1>{request.words}</h1></html>", "Content-Type: text/html"): 40,
    lambda request: answer(f"500 {request.words}", b""): 30,
    lambda request: answer("200 OK", message(request)): 40,
    lambda request: answer("200 OK", f'{{"code": "{request.words}"'): 30,
    lambda request: answer("400 Bad Request", message(request)): 30,
    lambda request: answer("503 Service Unavailable", message(request), f"X-Request: {request.words}"): 30,
    lambda request: request.head + request.body: 30,  # no HTTP at all
    lambda request: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + request.body: 20,
    lambda request: answer("200 OK", request.body)[:-5]: 10,
    lambda _: b"": 10,
}
ONCE: Final[dict[int, Manner]] = {
    300: lambda request: answer("429 Too Many Requests", message(request), f"Retry-After: {request.words}"),
    600: lambda request: answer("302 Found", message(request), f"Location: http://127.0.0.1:1/{request.words}"),
}


@dataclass
class Echo:
    """`heard` is all that it was sent; `calls` are those to the gateway, by phone."""

    url: str = ""
    calls: Counter[str] = field(default_factory=Counter)
    heard: list[str] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311 - a replay, not a secret

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await read_request(reader)
            self.heard.append(request.words)
            writer.write(self._reply(request))
            await writer.drain()

    def _reply(self, request: Request) -> bytes:
        if request.path.startswith("/v1/send/"):
            self.calls[str(json.loads(request.body)["phone"])] += 1
            return self._manner()(request)
        if "openid-configuration" in request.path:
            places = {name: f"{self.url}/{name}" for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")}
            return answer("200 OK", json.dumps({"issuer": self.url} | places), "Content-Type: application/json")
        return answer("400 Bad Request", json.dumps({"error": request.words, "error_description": request.words}))

    def _manner(self) -> Manner:
        if once := ONCE.get(self.calls.total()):
            return once
        accepted = 1000 - sum(MANNERS.values())
        return self.chance.choices([accept, *MANNERS], [accepted, *MANNERS.values()])[0]


@asynccontextmanager
async def echoing() -> AsyncIterator[Echo]:
    echo = Echo()
    async with serving(echo.serve) as port:
        echo.url = f"http://127.0.0.1:{port}"
        yield echo

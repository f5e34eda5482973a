"""Limits on what is parsed and cached of a request's path, query string and cookies.

Python before 3.11.10 and 3.12.6 takes quadratic time for a cookie full of backslashes (CVE-2024-7592). Litestar caches
the last 1,024 paths, query strings and cookies in parsed form, which takes 40 times their size.
"""

from collections.abc import Awaitable
from typing import Final

from litestar._kwargs.extractors import create_query_default_dict
from litestar._parsers import parse_cookie_string, parse_query_string
from litestar.types import HTTPScope, Receive, Send

from mailing.web.problems import refusal
from mailing.web.state import HttpApp

MAX_CACHED_BYTES: Final = 1024  # of a path, a query string or a cookie header; legitimate ones are shorter
COOKIE_PREFIXES: Final = (b"mailing_", b"__Host-mailing")


class HeaderLimits:
    """ASGI middleware: pass on our own cookies only, refuse long paths, and clear caches after a long header."""

    def __init__(self, app: HttpApp) -> None:
        self.app = app

    def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> Awaitable[None]:
        if len(scope["path"]) > MAX_CACHED_BYTES:
            detail = f"The path of an address may have at most {MAX_CACHED_BYTES} characters."
            return refusal(414, detail, scope)(scope, receive, send)
        is_long = len(scope["query_string"]) > MAX_CACHED_BYTES
        if cookies := [own_cookies(value) for name, value in scope["headers"] if name == b"cookie"]:
            others = [pair for pair in scope["headers"] if pair[0] != b"cookie"]
            scope["headers"] = [*others, *((b"cookie", value) for value in cookies)]
            is_long |= max(map(len, cookies)) > MAX_CACHED_BYTES
        return (self._uncached if is_long else self.app)(scope, receive, send)

    async def _uncached(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        finally:
            for parse in (parse_query_string, create_query_default_dict, parse_cookie_string):
                parse.cache_clear()


def own_cookies(given: bytes) -> bytes:
    """Keep our cookies only; a valid one has no backslash."""
    pairs = (pair.strip() for pair in given.split(b";"))
    return b"; ".join(pair for pair in pairs if pair.startswith(COOKIE_PREFIXES) and b"\\" not in pair)

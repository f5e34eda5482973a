"""What a proxy says about a request, and what a client says that passes through it."""

from typing import Any

import pytest

from mailing.web.forwarded import Forwarded

PROXY = ("10.0.0.9", 4000)


async def seen(
    *headers: tuple[str, str], peer: tuple[str, int] = PROXY, trusted: str = "10.0.0.0/8"
) -> tuple[str, str]:
    """Return the address and the scheme that the application sees."""
    scopes: list[Any] = []

    async def app(scope: Any, *_: Any) -> None:  # noqa: ANN401 - ASGI
        scopes.append(scope)

    told = [(name.lower().encode(), value.encode()) for name, value in headers]
    scope: Any = {"type": "http", "scheme": "http", "client": peer, "headers": told}
    await Forwarded(app, trusted=trusted)(scope, None, None)  # type: ignore[arg-type] # neither is used
    return scopes[0]["client"][0], scopes[0]["scheme"]


async def test_the_proxy_s_word_about_address_and_https_counts() -> None:
    told = ("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-Proto", "https")
    assert await seen(*told) == ("203.0.113.7", "https")
    assert await seen(*told, peer=("192.0.2.1", 1)) == ("192.0.2.1", "http")


@pytest.mark.parametrize(
    "forged",
    [
        [("X-Forwarded-For", "198.51.100.1, 10.2.3.4")],
        [("X-Forwarded-For", "198.51.100.1, 10.9.9.9,10.2.3.4")],
        [("X-Forwarded-For", "198.51.100.1"), ("X-Forwarded-For", "10.2.3.4")],
        [("X-Forwarded-For", "198.51.100.1"), ("X-Other", "x"), ("x-forwarded-for", " 10.2.3.4 ")],
    ],
)
async def test_a_client_in_a_trusted_network_puts_no_address_before_its_own(forged: list[tuple[str, str]]) -> None:
    """Where the proxy appends instead of overwriting, the last address is the proxy's word."""
    assert (await seen(*forged))[0] == "10.2.3.4"
    assert (await seen(*forged, trusted="*"))[0] == "10.2.3.4"

"""Validation of the Host header, against DNS rebinding.

A page of another site can point its own name at this machine, and a browser would let it read the answers. So the Host
must be a loopback address, the address that the connection was made to, or a configured name.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from mailing.settings import Settings
from mailing.web.problems import PROBLEM_JSON, Problem

EXEMPT_PATH: Final = "/health/"  # probes and load balancers send any Host; the answer holds no data
MAX_LENGTH: Final = 300
_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]{1,5})?", re.IGNORECASE)


def hosts_of(settings: Settings) -> frozenset[str]:
    """Return the configured names. Loopback addresses are always allowed."""
    names = [
        *(settings.allowed_hosts or "").split(","),
        urlsplit(settings.public_url or "").hostname or "",
        settings.host,
    ]
    return normalized(names)


def normalized(hosts: Iterable[str]) -> frozenset[str]:
    return frozenset({"localhost", *(_normalize(host.strip().strip("[]")) for host in hosts if host.strip())})


@lru_cache(1024)
def is_served(host: str, *, known: frozenset[str], here: str | None) -> bool:
    """Check a Host header. `here` is the address that the connection was made to."""
    found = _HOST.fullmatch(host)
    if found is None:
        return False
    name = _normalize(found[1] or found[2])
    address = _address(name)
    return name in known or name == _normalize(here or "") or (address is not None and address.is_loopback)


def _normalize(name: str) -> str:
    """Return the canonical spelling of a name or address."""
    address = _address(name)
    return str(address) if address else name.lower().removesuffix(".")


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(name)
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


class AllowedHosts:
    """ASGI middleware around all routes."""

    def __init__(self, app: ASGIApp, *, known: frozenset[str]) -> None:
        self.app = app
        self._known = known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = self._refused(scope) if scope["type"] == ScopeType.HTTP else None
        if refused is None:
            await self.app(scope, receive, send)
            return
        headers = [(b"content-type", PROBLEM_JSON.encode()), (b"content-length", str(len(refused[1])).encode())]
        await send({"type": "http.response.start", "status": refused[0], "headers": headers})
        await send({"type": "http.response.body", "body": refused[1], "more_body": False})

    def _refused(self, scope: Any) -> tuple[int, bytes] | None:  # noqa: ANN401 - an HTTP scope
        if scope["path"].startswith(EXEMPT_PATH):
            return None
        given = [value for name, value in scope["headers"] if name == b"host"]
        if len(given) != 1 or len(given[0]) > MAX_LENGTH:
            return _problem(400, "Invalid request", "Send one Host header with the name of this server.")
        here = (scope.get("server") or (None,))[0]
        if is_served(given[0].decode("latin-1"), known=self._known, here=here):
            return None
        return _problem(421, "Misdirected request", REMEDY)


REMEDY: Final = (
    "This server does not serve the name in the Host header. "
    "Add the name to MAILING_PUBLIC_URL or MAILING_ALLOWED_HOSTS."
)


def _problem(status: int, title: str, detail: str) -> tuple[int, bytes]:
    return status, msgspec.json.encode(Problem(title=title, status=status, detail=detail))

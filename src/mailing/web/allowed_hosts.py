"""Validation of the Host header, against DNS rebinding.

A page of another site can point its own name at this machine, and a browser would let it read the answers. So the Host
must be a loopback address, the address that the connection was made to, or a configured name.
"""

from collections.abc import Awaitable
from typing import Final

from litestar.types import HTTPScope, Receive, Send

from mailing.web.host_names import MAX_LENGTH, is_served
from mailing.web.problems import refusal
from mailing.web.state import HttpApp

EXEMPT_PATH: Final = "/health/"  # probes and load balancers send any Host; the answer holds no data


class AllowedHosts:
    """ASGI middleware around all routes."""

    def __init__(self, app: HttpApp, *, known: frozenset[str]) -> None:
        self.app = app
        self._known = known

    def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> Awaitable[None]:
        return (self._refused(scope) or self.app)(scope, receive, send)

    def _refused(self, scope: HTTPScope) -> HttpApp | None:
        if scope["path"].startswith(EXEMPT_PATH):
            return None
        given = [value for name, value in scope["headers"] if name == b"host"]
        if len(given) != 1 or len(given[0]) > MAX_LENGTH:
            return refusal(400, "Send one Host header with the name of this server.", scope)
        here = (scope.get("server") or (None,))[0]
        if is_served(given[0].decode("latin-1"), known=self._known, here=here):
            return None
        return refusal(421, REMEDY, scope)


REMEDY: Final = (
    "This server does not serve the name in the Host header. "
    "Add the name to MAILING_PUBLIC_URL or MAILING_ALLOWED_HOSTS."
)

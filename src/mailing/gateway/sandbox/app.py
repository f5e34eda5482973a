"""The sandbox on a port: the gateway's one operation, the behaviour, the ledger, and a page for people."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from mailing.errors import Invalid
from mailing.gateway.sandbox.behaviour import Behaviour
from mailing.gateway.sandbox.dialects import dialect_of
from mailing.gateway.sandbox.gateway import SandboxGateway
from mailing.gateway.sandbox.ledger import Entry, Ledger
from mailing.gateway.sandbox.page import CONTENT_SECURITY_POLICY, page
from mailing.web.host_names import MAX_LENGTH, is_served, normalized
from mailing.web.validation import parse

MAX_PAGE: Final = 10_000
LAST_ACCEPTED: Final = 50


class Page(msgspec.Struct, frozen=True):
    """`next_after` is the `after` of the next page, None on the last page."""

    items: list[Entry]
    next_after: int | None


@asynccontextmanager
async def running(  # noqa: PLR0913 - what the command line has
    host: str,
    port: int,
    behaviour: Behaviour,
    *,
    provider: str = "probe",
    token: str | None = None,
    allowed_hosts: Sequence[str] = (),
    ledger_path: Path | None = None,
) -> AsyncIterator[int]:
    """Serve while the block runs, and yield the bound port. Raises OSError: port in use. MailingError: no ledger."""
    gateway = SandboxGateway(behaviour, dialect=dialect_of(provider), token=token, ledger=Ledger(ledger_path))
    app = create_app(gateway, allowed_hosts=allowed_hosts)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def create_app(gateway: SandboxGateway, *, allowed_hosts: Sequence[str]) -> web.Application:
    dialect = gateway.dialect
    routes = _Routes(gateway)
    app = web.Application(middlewares=[_only_for(normalized(allowed_hosts))])
    app.add_routes(
        [
            web.post(dialect.path, gateway.send),
            web.get("/behaviour", routes.show_behaviour),
            web.put("/behaviour", routes.change_behaviour),
            web.get("/ledger", routes.show_ledger),
            web.delete("/ledger", routes.clear_ledger),
            web.get("/ledger/summary", routes.show_summary),
            web.get("/ledger/{message_id}", routes.show_message),
            web.get("/", routes.show_page),
        ]
    )
    if dialect.check:
        app.router.add_route(*dialect.check, gateway.check)
    app.on_cleanup.append(lambda _: gateway.close())
    return app


def _only_for(known: frozenset[str]) -> Middleware:
    """Refuse other host names: no other site's page may read the ledger under a name of its own."""

    @web.middleware
    async def only_for(request: web.Request, handler: Handler) -> web.StreamResponse:
        sockname = request.get_extra_info("sockname")
        here = sockname[0] if isinstance(sockname, tuple) else None
        if is_served(request.headers.get("Host", "")[:MAX_LENGTH], known=known, here=here):
            return await handler(request)
        return _json({"errors": [{"field": "Host", "message": "names another server; see --allowed-host"}]}, status=421)

    return only_for


class _Routes:
    def __init__(self, gateway: SandboxGateway) -> None:
        self._gateway = gateway

    async def show_behaviour(self, _: web.Request) -> web.Response:
        return _json(self._gateway.behaviour)

    async def change_behaviour(self, request: web.Request) -> web.Response:
        try:
            behaviour = parse(await request.read(), Behaviour)
        except Invalid as refused:
            return _json({"errors": refused.errors}, status=400)
        self._gateway.behave(behaviour)
        return _json(behaviour)

    async def show_ledger(self, request: web.Request) -> web.Response:
        after, limit = _number(request, "after", default=0), _number(request, "limit", default=100)
        if after is None or limit is None or not 1 <= limit <= MAX_PAGE:
            return _json({"errors": [{"field": "after, limit", "message": f"0 or more, 1 to {MAX_PAGE}"}]}, status=400)
        items = self._gateway.ledger.page(after=after, limit=limit)
        return _json(Page(items, after + limit if after + limit < len(self._gateway.ledger) else None))

    async def clear_ledger(self, _: web.Request) -> web.Response:
        self._gateway.forget()
        return web.Response(status=204)

    async def show_summary(self, _: web.Request) -> web.Response:
        return _json(self._gateway.summary())

    async def show_message(self, request: web.Request) -> web.Response:
        message_id = request.match_info["message_id"]
        known = re.fullmatch(r"-?[0-9]{1,19}", message_id) is not None
        items = self._gateway.ledger.of(int(message_id)) if known else []
        return _json({"items": items}, status=200 if items else 404)

    async def show_page(self, _: web.Request) -> web.Response:
        text = page(self._gateway.behaviour, self._gateway.summary(), self._gateway.ledger.newest(LAST_ACCEPTED))
        headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Cache-Control": "no-store"}
        return web.Response(text=text, content_type="text/html", headers=headers)


def _number(request: web.Request, name: str, *, default: int) -> int | None:
    value = request.query.get(name, str(default))
    return int(value) if re.fullmatch(r"[0-9]{1,18}", value) else None


def _json(value: object, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")

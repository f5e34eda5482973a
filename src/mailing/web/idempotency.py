"""`Idempotency-Key`: a repeated POST with the same key returns the stored answer.

The answer is stored by the transaction of the change, so both exist or neither. An error changed nothing and is not
stored: a repetition is processed again. Concurrent requests with one key are excluded by an advisory lock of the
transaction. It is tried, not waited for, and ends with the transaction even if the process dies.

The body is read first, because its digest identifies the request; a long one is kept in a temporary file. The key is
locked by the handler's first statement, so neither a slow upload nor the validation of a long file keeps a transaction
open, which the server would end as idle.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import IO, cast

import msgspec
from litestar import Response
from litestar import post as litestar_post
from litestar.types import ASGIApp, HTTPRequestEvent, HTTPResponseStartEvent, Message, Receive, Scope, Send
from litestar.utils.scope.state import ScopeState
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from mailing.database.engine import in_transaction, transaction
from mailing.errors import Conflict, FieldError, Invalid, KeyReused
from mailing.web.idempotency_keys import Stored, find_answer, is_free, store_answer
from mailing.web.parameters import SAFE
from mailing.web.state import AnyRequest, ApiRequest, AppState, state_of

HEADER = "Idempotency-Key"
PATTERN = "^[!-~]+$"
MAX_LENGTH = 255
RULE = f"1 to {MAX_LENGTH} visible ASCII characters, such as a UUID"
REPLAYED = "Idempotent-Replayed"

_NAME = HEADER.lower().encode()
_MAX_IN_MEMORY = 1024 * 1024  # bytes; only imports have longer bodies
_CHUNK = 64 * 1024


@dataclass(kw_only=True)
class Keyed:
    """A request that is done once, in the transaction of `session`.

    `names` are the columns under which its answer is stored; None while it has no key.
    """

    session: AsyncSession
    names: dict[str, str] | None = None
    request_hash: bytes = b""

    def stored(self, body: bytes) -> bytes:
        """Return what is stored of the answer's body."""
        return body


@dataclass(kw_only=True)
class KeyedRequest(Keyed):
    key: str
    body: IO[bytes]


class Answer:
    """An answer that is held back."""

    start: HTTPResponseStartEvent
    body = b""

    async def keep(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
        elif message["type"] == "http.response.body":
            self.body += message["body"]

    async def send(self, send: Send) -> None:
        await send(self.start)
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


async def committed_answer(app: ASGIApp, scope: Scope, receive: Receive, keyed: Keyed) -> Answer:
    """Return the answer once it is stored and committed with the change."""
    answer = Answer()
    async with keyed.session:  # rolls back what is not committed
        scope["state"]["keyed"] = keyed
        await app(scope, receive, answer.keep)
        ScopeState.from_scope(scope).response_started = False  # so that a failed COMMIT can be answered
        if (status := answer.start["status"]) < 400:
            if keyed.names:
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in answer.start["headers"]}
                stored = Stored(keyed.request_hash, status, headers, keyed.stored(answer.body))
                await store_answer(keyed.session, keyed.names, stored)
            await keyed.session.commit()
    return answer


class Idempotency:
    """ASGI middleware: hold back the answer to a POST with a key until it is committed with the change.

    `replay_or_begin` and `provide_session` act inside, after the guards: keys are per caller.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        key = _key_of(scope)
        return self.app(scope, receive, send) if key is None else self._answer(scope, receive, send, key)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, key: str) -> None:
        session = cast("AppState", scope["litestar_app"].state).sessions()
        with SpooledTemporaryFile(max_size=_MAX_IN_MEMORY) as body:
            answer = await committed_answer(self.app, scope, receive, KeyedRequest(session=session, key=key, body=body))
        await answer.send(send)


post = partial(litestar_post, middleware=[Idempotency])  # of the API; other requests pass no such layer


def _key_of(scope: Scope) -> str | None:
    given = [value for name, value in scope["headers"] if name == _NAME]
    return b", ".join(given).decode("latin-1") if given else None


async def replay_or_begin(request: ApiRequest) -> Response[bytes] | None:
    """Return the stored answer, if any, in place of the handler's.

    Raise Invalid for a malformed key, KeyReused if the key belongs to another request.
    """
    keyed: KeyedRequest | None = request.scope["state"].get("keyed")
    if keyed is None:
        return None
    if len(keyed.key) > MAX_LENGTH or not re.fullmatch(PATTERN, keyed.key):
        raise Invalid(FieldError(HEADER, f"must be {RULE}"))
    digest = await _read(request, keyed.body)
    names = {"caller": request.user, "key": keyed.key}
    stored = await in_transaction(state_of(request).sessions, find_answer, names)
    if stored is None:
        keyed.names, keyed.request_hash = names, digest
        _lock_with_first_statement(keyed.session, names)
        return None
    if stored.request_hash != digest:
        raise KeyReused(f"This {HEADER} was used for another request. Send a new key with a new request.")
    return Response(stored.body, status_code=stored.status, headers=stored.headers | {REPLAYED: "true"})


async def _read(request: ApiRequest, body: IO[bytes]) -> bytes:
    """Return the digest of the request, and copy its body to the file. Raise what reading a body raises."""
    named = [request.method, request.scope["path"], request.scope["query_string"], request.headers.get("content-type")]
    digest = hashlib.sha256(msgspec.json.encode(named))
    async for chunk in ApiRequest(request.scope, request.receive).stream():
        digest.update(chunk)
        body.write(chunk)
    body.seek(0)
    request.receive = partial(_next_chunk, body)
    return digest.digest()


async def _next_chunk(body: IO[bytes]) -> HTTPRequestEvent:
    chunk = body.read(_CHUNK)
    return {"type": "http.request", "body": chunk, "more_body": len(chunk) == _CHUNK}


def _lock_with_first_statement(session: AsyncSession, names: dict[str, str]) -> None:
    """Lock the key with the session's first statement. It raises Conflict if another request has or had the key."""

    def take(_session: Session, _transaction: SessionTransaction, connection: Connection) -> None:
        if not is_free(connection, names):
            raise Conflict(f"A request with this {HEADER} is in progress. Send it again in a moment.")

    event.listen(session.sync_session, "after_begin", take, once=True)


async def provide_session(request: AnyRequest) -> AsyncIterator[AsyncSession]:
    """Provide the request's transaction, committed when the handler returns, before the answer is sent.

    A safe request has an autocommit session instead.
    """
    keyed: Keyed | None = request.scope["state"].get("keyed")
    if keyed:
        yield keyed.session
        return
    state = state_of(request)
    async with transaction(state.readers if request.method in SAFE else state.sessions) as session:
        yield session

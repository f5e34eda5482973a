"""A form that is sent twice is done once: each form that changes something carries a one-time key.

The key is random, rendered into the form, and belongs to the user who sends it. The first POST takes a lock and stores
its answer in the transaction that makes the change; a second waits for that answer and gets it again. A refused form
changed nothing and is not stored. A form without a key, as a script may send it, is done each time.

A form with a file has its key in its address. Its handler reads the file first, which may take minutes, and then calls
`begin` itself: the server ends a transaction that is idle for seconds.

The table holds only a hash of the key, and the answer encrypted with it: a page that shows a new API key can be shown
again to the browser that holds the form, and cannot be read from the database or a backup.
"""

import asyncio
import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from cryptography.fernet import Fernet
from litestar import Response
from litestar.enums import RequestEncodingType
from litestar.response import Redirect
from litestar.types import ASGIApp, Receive, Scope, Send
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.admin.forms import form_fields
from mailing.admin.kept_forms import KEEPS_FORM, MAX_FIELDS, RESTORED, Fields, belongs_to
from mailing.errors import Conflict, FieldError, Invalid
from mailing.web.idempotency import Keyed, committed_answer
from mailing.web.idempotency_keys import Stored, find_answer, try_lock
from mailing.web.state import AnyRequest, AppState

FIELD = "form_key"
WAIT_S = 10
_RETRY_S = 0.05
_SYNTAX = re.compile("[A-Za-z0-9_-]{43}").fullmatch


def new_form_key() -> str:
    return secrets.token_urlsafe(32)


@dataclass(kw_only=True)
class KeyedForm(Keyed):
    key: str = ""

    def stored(self, body: bytes) -> bytes:
        return _cipher(self.key).encrypt(body)


class FormKeys:
    """ASGI middleware: the answer to a form with a key is held back until it is committed with the change."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") != "POST":
            await self.app(scope, receive, send)
            return
        form = KeyedForm(session=cast("AppState", scope["litestar_app"].state).sessions())
        answer = await committed_answer(self.app, scope, receive, form)
        await answer.send(send)


async def replay_or_begin(request: AnyRequest) -> Response[bytes] | None:
    """Before the handler and instead of it: the stored answer, if there is one. Raises Conflict or Invalid."""
    if request.method != "POST":
        return None
    sent = await form_fields(request, max_fields=MAX_FIELDS)
    if RESTORED in dict(sent):
        return _restore(request, sent)
    key = dict(sent).get(FIELD)
    return await begin(request, key) if key is not None and _changes_something(request) else None


async def begin(request: AnyRequest, key: str) -> Response[bytes] | None:
    """Lock the key with the first statement of the request's transaction. Return the stored answer, if there is one."""
    if not _SYNTAX(key):
        raise Invalid(FieldError(FIELD, "must be as the page has it"))
    names = {"caller": f"form of user {request.user.id}", "key": hashlib.sha256(key.encode()).hexdigest()}
    digest = await _digest(request)
    form: KeyedForm = request.scope["state"]["keyed"]
    stored = await _lock_or_find(form.session, names)
    if stored is None:
        form.key, form.names, form.request_hash = key, names, digest
        return None
    if stored.request_hash != digest:
        raise Conflict("This form was sent before, with other content. Reload the page to send another.")
    return Response(_cipher(key).decrypt(stored.body), status_code=stored.status, headers=stored.headers)


def _restore(request: AnyRequest, sent: Fields) -> Response[Any] | None:
    """Let the handler show the form; redirect if it cannot, or if another user filled it in."""
    if request.route_handler.opt.get(KEEPS_FORM) and request.user and belongs_to(sent, request.user.id):
        request.scope["state"][RESTORED] = True
        return None
    return Redirect("/admin/", status_code=303)


def _changes_something(request: AnyRequest) -> bool:
    """Whether the handler uses the request's transaction; one that answers 200 only shows something."""
    handler = request.route_handler
    return "session" in handler.parsed_fn_signature.parameters and handler.status_code != 200


async def _digest(request: AnyRequest) -> bytes:
    """Hash the fields of the form. A file is streamed and not hashed: such a form is identified by its key alone."""
    body = b"" if request.content_type[0] == RequestEncodingType.MULTI_PART else await request.body()
    named = [request.scope["path"], request.scope["query_string"], body]
    return hashlib.sha256(msgspec.json.encode(named)).digest()


async def _lock_or_find(session: AsyncSession, names: dict[str, str]) -> Stored | None:
    """Wait without a connection while another request has the key."""
    until = asyncio.get_running_loop().time() + WAIT_S
    while not await try_lock(session, names):
        await session.rollback()
        if asyncio.get_running_loop().time() > until:
            raise Conflict("This form was sent a moment ago and is still being processed. Try again in a moment.")
        await asyncio.sleep(_RETRY_S)
    return await find_answer(session, names)


def _cipher(key: str) -> Fernet:
    return Fernet(f"{key}=")  # 32 random bytes in base64, as Fernet wants them

"""Keep a filled form whose session has ended in hidden fields of the sign-in page, and show it again afterwards.

The server stores nothing. Only the user who opened the form gets it back. Passwords and files are not kept, and the
form is shown, not sent: its user presses the button again.
"""

from typing import Any

import msgspec
from litestar.connection.request import Request

from mailing.admin.forms import form_fields
from mailing.web.state import AnyConnection

KEEPS_FORM = "keeps_form"  # in a route's `opt`: it can show what was typed
TYPED = "typed_fields"  # in the request's state
RESTORED = "form_restored"  # the field of a POST that asks for the form itself
USER = "form_user"

MAX_FIELDS = 250  # of the longest form here
MAX_LENGTH = 60_000  # characters of a kept form, as JSON
MAX_SIGN_IN_BYTES = 512 * 1024

_NOT_KEPT = {"password", "old", "again", "form_key", RESTORED}

Fields = list[tuple[str, str]]


async def typed_fields(connection: AnyConnection, opt: dict[str, Any]) -> Fields:
    """Return what to keep of a form until it is done; nothing if its page names no user."""
    if not opt.get(KEEPS_FORM) or not isinstance(connection, Request) or connection.method != "POST":
        return []
    sent = await form_fields(connection, max_fields=MAX_FIELDS)
    fields = [(name, value) for name, value in sent if name not in _NOT_KEPT]
    return fields if USER in dict(fields) and len(pack(fields)) <= MAX_LENGTH else []


def pack(fields: Fields) -> str:
    return msgspec.json.encode(fields).decode()


def unpack(kept: str) -> Fields:
    try:
        return msgspec.json.decode(kept, type=Fields)
    except msgspec.DecodeError:
        return []


def belongs_to(fields: Fields, user_id: int) -> bool:
    return dict(fields).get(USER) == str(user_id)


def shown_for_copying(connection: AnyConnection) -> Fields:
    """Return what was typed into a form that was refused."""
    typed: Fields = connection.scope["state"].get(TYPED, [])
    return typed


def is_restored(connection: AnyConnection) -> bool:
    """Whether to show the form as it was typed, and do nothing."""
    return bool(connection.scope["state"].get(RESTORED))

"""Checks of a request to the API: its key and the key's rate limit."""

import secrets

from mailing.access.api_keys import READ
from mailing.access.state import access_state_of
from mailing.errors import Forbidden, Unauthorized
from mailing.web.parameters import SAFE
from mailing.web.state import AnyConnection, first_header

SETTINGS_KEY = "MAILING_API_KEY"


async def require_key(connection: AnyConnection) -> None:
    """Check `Authorization: Bearer <key>`, store the caller in `scope["user"]`, and check the caller's rate."""
    scheme, _, key = first_header(connection.scope, b"authorization").replace("\t", " ").strip(" ").partition(" ")
    key = key.strip(" ")  # RFC 9110 allows several blanks; a tab is taken for one
    if scheme.lower() != "bearer" or not key:
        raise Unauthorized("Send the header Authorization: Bearer <key>. Create a key with mailing key create.")
    state = access_state_of(connection)
    configured: str | None = state.settings.api_key
    if configured and secrets.compare_digest(key.encode(), configured.encode()):
        caller = SETTINGS_KEY
    else:
        known = await state.known_keys.find(key)
        if known is None:
            raise Unauthorized("This key is unknown or was revoked.")
        if known.scope == READ and connection.scope.get("method") not in SAFE:
            raise Forbidden("This key has the scope read. Create one with the scope full: mailing key create.")
        caller = known.caller
    connection.scope["user"] = caller
    await state.allowance.take(caller)

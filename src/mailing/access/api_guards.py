"""What a request to the API must pass: its key and the key's rate."""

import secrets

from mailing.access.api_keys import READ
from mailing.access.state import access_state_of
from mailing.errors import Forbidden, Unauthorized
from mailing.web.parameters import SAFE
from mailing.web.state import AnyConnection

SETTINGS_KEY = "MAILING_API_KEY"


async def require_key(connection: AnyConnection) -> None:
    """Check `Authorization: Bearer <key>` and store the caller in `scope["user"]`."""
    scheme, _, key = connection.headers.get("authorization", "").partition(" ")
    key = key.strip(" ")  # RFC 9110 allows several blanks
    if scheme.lower() != "bearer" or not key:
        raise Unauthorized("Send the header Authorization: Bearer <key>. Create a key with mailing key create.")
    configured: str | None = access_state_of(connection).settings.api_key
    if configured and secrets.compare_digest(key.encode(), configured.encode()):
        connection.scope["user"] = SETTINGS_KEY
        return
    known = await access_state_of(connection).known_keys.find(key)
    if known is None:
        raise Unauthorized("This key is unknown or was revoked.")
    if known.scope == READ and connection.scope.get("method") not in SAFE:
        raise Forbidden("This key has the scope read. Create one with the scope full: mailing key create.")
    connection.scope["user"] = known.caller


async def enforce_rate_limit(connection: AnyConnection) -> None:
    """Check the caller's rate. `require_key` must have set the caller."""
    await access_state_of(connection).allowance.take(str(connection.scope["user"]))

"""What access adds to the state of the API process."""

from typing import Any, cast

from litestar.connection import ASGIConnection

from mailing.access.api_keys import KeyCache
from mailing.access.oidc import Provider
from mailing.access.rate_limit import RateLimiter
from mailing.web.state import AppState


class AccessState(AppState):
    """`provider` is None without single sign-on."""

    known_keys: KeyCache
    allowance: RateLimiter
    provider: Provider | None


def access_state_of(connection: ASGIConnection[Any, Any, Any, Any]) -> AccessState:
    return cast("AccessState", connection.app.state)

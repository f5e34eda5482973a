"""The part of the API process's state that belongs to this package."""

from typing import TYPE_CHECKING, cast

from mailing.access.api_keys import KeyCache
from mailing.access.rate_limit import RateLimiter
from mailing.web.state import AnyConnection, AppState

if TYPE_CHECKING:
    from mailing.access.oidc import Provider


class AccessState(AppState):
    """`provider` is None without single sign-on."""

    known_keys: KeyCache
    allowance: RateLimiter
    provider: "Provider | None"


def access_state_of(connection: AnyConnection) -> AccessState:
    return cast("AccessState", connection.app.state)

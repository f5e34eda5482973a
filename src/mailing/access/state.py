"""What access adds to the state of the API process."""

from typing import TYPE_CHECKING

from mailing.access.api_keys import KeyCache
from mailing.access.rate_limit import RateLimiter
from mailing.web.state import AnyConnection, AppState, state_as

if TYPE_CHECKING:
    from mailing.access.oidc import Provider


class AccessState(AppState):
    """`provider` is None without single sign-on."""

    known_keys: KeyCache
    allowance: RateLimiter
    provider: "Provider | None"


def access_state_of(connection: AnyConnection) -> AccessState:
    return state_as(AccessState, connection.app)

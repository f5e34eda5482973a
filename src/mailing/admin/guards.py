"""Guards of the admin page: each route names its role, and forms are accepted from this site only.

The session cookie is SameSite=Lax. A request that changes anything must come from this site, by Sec-Fetch-Site, or by
Origin where a browser omits that header (plain http beside localhost). So forms need no CSRF token.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from litestar.exceptions import PermissionDeniedException
from litestar.handlers import BaseRouteHandler

from mailing.access.roles import Role
from mailing.access.sessions import User, user_of
from mailing.admin.kept_forms import TYPED, Fields, typed_fields
from mailing.database.engine import in_transaction
from mailing.web.concurrency_limits import limit_concurrency
from mailing.web.parameters import SAFE
from mailing.web.state import AnyConnection, state_of

SIGN_IN = "/admin/sign-in"


class SignInRequired(Exception):
    """Raised with the fields of a filled form, if there is one to keep."""

    def __init__(self, fields: Fields) -> None:
        super().__init__()
        self.fields = fields


@dataclass(frozen=True)
class RoleGuard:
    """A Litestar guard, which also acquires the route's concurrency limit. `role` is None for public pages."""

    role: Role | None

    async def __call__(self, connection: AnyConnection, handler: BaseRouteHandler) -> None:
        connection.scope["state"][TYPED] = typed = await typed_fields(connection, handler.opt)
        connection.scope["user"] = user = await _user(connection)
        if self.role is None:
            return
        if user is None:
            raise SignInRequired(typed)
        if user.role < self.role:
            raise PermissionDeniedException(f"This needs the role {self.role}.")
        await limit_concurrency(connection, handler)


# The guards of a route: each names one of these.
PUBLIC = [RoleGuard(None)]
VIEWER = [RoleGuard(Role.VIEWER)]
EDITOR = [RoleGuard(Role.EDITOR)]
SENDER = [RoleGuard(Role.SENDER)]
ADMIN = [RoleGuard(Role.ADMIN)]


async def _user(connection: AnyConnection) -> User | None:
    """Return the user of the session. A poll does not keep it alive."""
    token = connection.cookies.get(cookie_name(connection))
    if not token:
        return None
    return await in_transaction(state_of(connection).sessions, user_of, token, used=not is_poll(connection))


def is_poll(connection: AnyConnection) -> bool:
    """Whether an open page itself asks for its part that refreshes, not its user for the page."""
    return connection.url.path.endswith("/live")


def cookie_name(connection: AnyConnection) -> str:
    """Return the session cookie's name. With https no other host, path or plain connection can set it."""
    return "__Host-mailing" if connection.url.scheme == "https" else "mailing_session"


def same_origin(connection: AnyConnection, handler: BaseRouteHandler) -> None:
    """Refuse a form of another site. A Litestar guard of the whole router."""
    del handler
    if connection.scope.get("method") in SAFE or _comes_from_here(connection):
        return
    raise PermissionDeniedException("This form was sent from another site. Open the page here and send it again.")


def _comes_from_here(connection: AnyConnection) -> bool:
    fetched = connection.headers.get("sec-fetch-site")
    if fetched is not None:
        return fetched == "same-origin"
    origin = urlsplit(connection.headers.get("origin", ""))
    return bool(origin.netloc) and origin.netloc == connection.headers.get("host")

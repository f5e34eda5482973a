"""The viewer of a page: user, language and time zone."""

import re
from urllib.parse import quote

from litestar.di import NamedDependency
from msgspec import Struct

from mailing.access.roles import Role
from mailing.access.sessions import User
from mailing.admin.guards import SIGN_IN
from mailing.admin.language import preferred
from mailing.timezones import known_zone
from mailing.translations import LANGUAGES, translations
from mailing.web.state import AnyRequest, state_of

LANGUAGE_COOKIE = "mailing_language"
ZONE_COOKIE = "mailing_zone"

MAX_PATH = 2000  # characters, encoded: below every proxy's limit for a header line
_ADDRESS_SYNTAX = "/?#[]@!$&'()*+,;=:%"
_LONE_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")


class Viewer(Struct, frozen=True):
    """`user` is None before the sign-in; `path` is the page itself, to return to."""

    user: User | None
    language: str
    zone: str
    path: str

    def gettext(self, message: str) -> str:
        return translations(self.language).gettext(message)

    def ngettext(self, one: str, many: str, count: int) -> str:
        return translations(self.language).ngettext(one, many, count)

    def may(self, role: str) -> bool:
        """Return whether to show what requires `role`, such as "editor". The guards check it again."""
        return self.user is not None and self.user.role >= Role.named(role)


CurrentViewer = NamedDependency[Viewer]


def viewer_of(request: AnyRequest) -> Viewer:
    language = request.cookies.get(LANGUAGE_COOKIE, "")
    zone = request.cookies.get(ZONE_COOKIE, "")
    return Viewer(
        user=request.scope.get("user"),
        language=language if language in LANGUAGES else preferred(request.headers.get("accept-language", "")),
        zone=zone if known_zone(zone) else state_of(request).settings.report_timezone,
        path=_path_of(request),
    )


def _path_of(request: AnyRequest) -> str:
    """Return the page's path. The provider's callback is valid once, so the sign-in page replaces it."""
    path, query = request.url.path, request.url.query
    if path.startswith(f"{SIGN_IN}/"):
        return SIGN_IN
    return f"{path}?{query}" if query else path


def local_path(path: str) -> str:
    """Return `path`, encoded, if it is an admin page, else `/admin/`: prevent redirects to other sites.

    A path that starts with `/admin/` has neither scheme nor host. Browsers treat a backslash as a slash.
    """
    ours = path.startswith("/admin/") and "\\" not in path and path.isprintable()
    encoded = encode_address(path) if ours else ""
    return encoded if 0 < len(encoded) <= MAX_PATH else "/admin/"


def encode_address(address: str) -> str:
    """Encode an address to ASCII; what is encoded already stays so."""
    return quote(_LONE_PERCENT.sub("%25", address), safe=_ADDRESS_SYNTAX, errors="replace")

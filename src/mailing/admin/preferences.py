"""Language and time zone of the pages, kept in the browser."""

from litestar import Response
from litestar.datastructures import Cookie

from mailing.admin.forms import form, post_form
from mailing.admin.guards import PUBLIC
from mailing.admin.pages import redirect
from mailing.admin.viewer import LANGUAGE_COOKIE, ZONE_COOKIE, local_path
from mailing.timezones import known_zone
from mailing.translations import LANGUAGES
from mailing.web.state import AnyRequest

MAX_AGE_S = 365 * 86_400


@post_form("/preferences", guards=PUBLIC)
async def keep_preferences(request: AnyRequest) -> Response[None]:
    """Store `language`, `zone` or both; `next` is the page to return to."""
    sent = await form(request)
    answer = redirect(local_path(sent.get("next", "")))
    if sent.get("language") in LANGUAGES:
        answer.cookies.append(_cookie(LANGUAGE_COOKIE, sent["language"]))
    if known_zone(sent.get("zone", "")):
        answer.cookies.append(_cookie(ZONE_COOKIE, sent["zone"]))
    return answer


def _cookie(name: str, value: str) -> Cookie:
    return Cookie(name, value=value, path="/admin", httponly=True, samesite="lax", max_age=MAX_AGE_S)

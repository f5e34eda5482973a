"""A page from its template, in the viewer's language and zone."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NoBase64
from functools import cache, partial
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie

from mailing.access.roles import Role
from mailing.admin import language
from mailing.admin.form_keys import new_form_key
from mailing.admin.guards import SIGN_IN, SignInRequired
from mailing.admin.viewer import Viewer, encode_address, local_path, viewer_of
from mailing.observability.masking import mask_addresses
from mailing.translations import LANGUAGES, translations
from mailing.web.problems import EXCEPTION_HANDLERS, Problem

HTML = "text/html; charset=utf-8"
NOTICE_COOKIE = "mailing_notice"

# Nothing inline, nothing from elsewhere, in nobody's frame; what names people is kept in no cache.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def page(request: Request[Any, Any, Any], template: str, *, status: int = 200, **values: object) -> Response[str]:
    """`template` is a path below `admin/`. A notice left by `redirect` is shown, this once."""
    notice = _read_notice(request)
    shown = render(viewer_of(request), template, notice=notice, **values)
    answer = Response(shown, media_type=HTML, status_code=status, headers=HEADERS)
    if notice:
        answer.delete_cookie(NOTICE_COOKIE, path="/admin")
    return answer


def render(viewer: Viewer, template: str, **values: object) -> str:
    """A part of a page, or one that needs no answer of its own."""
    return (
        _environment(viewer.language)
        .get_template(template)
        .render(
            viewer=viewer,
            instant=partial(language.instant, language=viewer.language, zone=viewer.zone),
            **values,
        )
    )


def redirect(path: str, *, notice: str = "") -> Response[None]:
    """To the page of ours that shows what the form did, so that a reload does not do it again."""
    cookies = [
        Cookie(NOTICE_COOKIE, value=_encode_notice(notice), path="/admin", httponly=True, samesite="lax", max_age=60)
    ]
    answer = see_other(local_path(path))
    answer.cookies.extend(cookies if notice else [])
    return answer


def see_other(address: str) -> Response[None]:
    """The one place that tells a browser to go elsewhere; whatever `address` holds, it is one line of ASCII then."""
    return Response(None, status_code=303, headers={"Location": encode_address(address)})


def redirect_to_sign_in(request: Request[Any, Any, Any], _: SignInRequired) -> Response[None]:
    """A part of a page would show the form in the wrong place: htmx is told to leave the page instead."""
    if "hx-request" in request.headers:
        return Response(None, status_code=401, headers={"HX-Redirect": SIGN_IN})
    asked = local_path(quote(request.url.path, errors="replace")) if request.method == "GET" else "/admin/"
    return see_other(f"{SIGN_IN}?next={quote(asked, safe='/')}")


def _encode_notice(notice: str) -> str:
    return urlsafe_b64encode(notice.encode()).decode()


def _read_notice(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    try:
        return urlsafe_b64decode(connection.cookies.get(NOTICE_COOKIE, "")).decode()
    except (NoBase64, ValueError):
        return ""


def problem_page(request: Request[Any, Any, Any], error: Exception) -> Response[str]:
    """What the API would answer, as a page."""
    handler = next(EXCEPTION_HANDLERS[kind] for kind in type(error).__mro__ if kind in EXCEPTION_HANDLERS)
    answer: Response[Problem] = handler(request, error)
    shown = page(request, "problem.html", status=answer.status_code or 500, problem=answer.content)
    shown.headers.update({name: value for name, value in answer.headers.items() if name == "Retry-After"})
    return shown


@cache
def _environment(language_code: str) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(language.HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    environment.install_gettext_translations(  # type: ignore[attr-defined] # added by the extension
        translations(language_code), newstyle=True
    )
    environment.filters["number"] = partial(language.number, language=language_code)
    environment.filters["percent"] = partial(language.percent, language=language_code)
    environment.filters["day"] = partial(language.day, language=language_code)
    environment.filters["masked"] = mask_addresses
    environment.filters["duration"] = partial(language.duration, language=language_code)
    environment.globals.update(LANGUAGES=LANGUAGES, Role=Role, new_form_key=new_form_key)
    return environment

"""Rendering of pages from templates, in the viewer's language and time zone, and reading of forms."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NoBase64
from collections.abc import Mapping
from functools import cache, partial
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import Response
from litestar.exceptions import HTTPException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.response import Redirect
from markupsafe import Markup

from mailing.access.roles import Role
from mailing.admin import language
from mailing.admin.form_keys import new_form_key
from mailing.admin.guards import SIGN_IN, SignInRequired
from mailing.admin.kept_forms import is_restored, shown_for_copying
from mailing.admin.viewer import Viewer, encode_address, local_path, viewer_of
from mailing.errors import Conflict, FieldError, Invalid, NotFound
from mailing.observability.masking import mask_addresses
from mailing.reasons.codes import words_of
from mailing.reasons.refusals import RefusedField
from mailing.translations import LANGUAGES, translations
from mailing.web.problems import problem_of
from mailing.web.state import AnyConnection, AnyRequest

HTML = "text/html"  # Litestar adds the charset
NOTICE_COOKIE = "mailing_notice"

# No inline code, no other origins, no framing; pages with personal data are not cached.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
}


def page(
    request: AnyRequest,
    template: str,
    *,
    status: int | None = None,
    errors: Mapping[str, str] | None = None,
    **values: object,
) -> Response[str]:
    """Render `template`, a path below `admin/`. A notice left by `redirect` is shown once.

    `errors` are the sentences to show beside fields. With them the status is 400, unless it is given.
    """
    notice, viewer = _read_notice(request), viewer_of(request)
    if is_restored(request):
        notice = viewer.gettext("The form is as you filled it in. Nothing was sent yet: check it and send it.")
    shown = render(viewer, template, notice=notice, errors=errors or {}, **values)
    status = status or (400 if errors else 200)
    answer = Response(shown, media_type=HTML, status_code=status, headers=HEADERS)
    if notice:
        answer.delete_cookie(NOTICE_COOKIE, path="/admin")
    return answer


def edit_conflicts(viewer: Viewer, typed: Mapping[str, str], stored: Mapping[str, str]) -> dict[str, str]:
    """Return an error for each field that another person has changed to something else than was typed."""
    sentence = viewer.gettext("Changed while this form was open. It is now: %(stored)s. Save again to replace that.")
    message = Markup(sentence)  # noqa: S704 - of the catalogue
    changed = {name: now or "-" for name, now in stored.items() if typed.get(name, "") != now}
    return {name: message % {"stored": language.isolated(now)} for name, now in changed.items()}


def errors_of(viewer: Viewer, error: Invalid | Conflict, labels: Mapping[str, str]) -> dict[str, str]:
    """Map fields to messages, each with its field's label, because the summary is shown away from the fields.

    A conflict without a field is shown at the first one.
    """
    fields = error.errors or [FieldError(next(iter(labels)), str(error))]
    return {each.field: f"{labels.get(each.field, each.field)}: {message_of(viewer, each)}" for each in fields}


def message_of(viewer: Viewer, error: FieldError) -> str:
    return error.refusal.words(viewer.language) if isinstance(error, RefusedField) else viewer.gettext(error.message)


def render(viewer: Viewer, template: str, **values: object) -> str:
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
    """Redirect to an admin page after a form, so that a reload does not send the form again."""
    answer = see_other(local_path(path))
    if notice:
        encoded = urlsafe_b64encode(notice.encode()).decode()
        answer.set_cookie(NOTICE_COOKIE, encoded, path="/admin", httponly=True, samesite="lax", max_age=60)
    return answer


def see_other(address: str) -> Response[None]:
    """Answer 303. The address is encoded to one line of ASCII, whatever it holds."""
    return Redirect(encode_address(address), status_code=303)


def redirect_to_sign_in(request: AnyRequest, _: SignInRequired) -> Response[Any]:
    """Redirect to the sign-in page; for a fragment, tell htmx to load that page as a whole."""
    if "hx-request" in request.headers and request.method == "POST":  # what is being typed stays there
        ended = viewer_of(request).gettext("Your session has ended. Send the form to sign in: what you typed is kept.")
        return Response(ended, media_type=HTML, status_code=401)
    if "hx-request" in request.headers:
        here = "/admin/" + request.headers.get("hx-current-url", "").partition("/admin/")[2]
        return Response(b"", status_code=401, headers={"HX-Redirect": _sign_in_before(here)})
    if request.method == "GET":
        return see_other(_sign_in_before(viewer_of(request).path))
    notice = viewer_of(request).gettext("Your session has ended. Nothing was changed.")
    return redirect(_sign_in_before(request.url.path), notice=notice)  # where the form is, or a page below it


def _sign_in_before(path: str) -> str:
    return f"{SIGN_IN}?next={quote(local_path(path), safe='/')}"


def _read_notice(connection: AnyConnection) -> str:
    try:
        return urlsafe_b64decode(connection.cookies.get(NOTICE_COOKIE, "")).decode()
    except (NoBase64, ValueError):
        return ""


def problem_page(request: AnyRequest, error: Exception) -> Response[str]:
    """Show the problem that the API would answer as a page."""
    answer = problem_of(request, error)
    detail = error.detail if isinstance(error, RequestEntityTooLarge) else answer.content.detail
    detail = viewer_of(request).gettext(error.sentence if isinstance(error, NotFound) else detail)
    if isinstance(error, NotFound):
        detail %= error.values
    typed, status = shown_for_copying(request), answer.status_code or 500
    shown = page(request, "problem.html", status=status, problem=answer.content, detail=detail, typed=typed)
    if isinstance(error, NotFound) and request.method == "GET" and "hx-request" in request.headers:
        # What the open page shows is gone. The page of a form (POST) keeps what is typed there.
        shown.headers.update({"HX-Retarget": "#content", "HX-Reselect": "#content", "HX-Reswap": "outerHTML"})
    shown.headers.update({name: value for name, value in answer.headers.items() if name == "Retry-After"})
    return shown


def unrouted(request: AnyRequest, error: HTTPException) -> Response[Any]:
    """Answer, for the whole application, what no route takes: below /admin/ as a page.

    Where only a form is taken, as after a change of language beside a refused form, the page above is shown.
    """
    path = request.url.path
    if not path.startswith("/admin/"):
        return problem_of(request, error)
    if request.method == "GET" and error.status_code == 405:
        return see_other(path.rstrip("/").rpartition("/")[0])
    return problem_page(request, error)


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
    environment.filters["words"] = partial(words_of, language=language_code)
    environment.filters["masked"] = mask_addresses
    environment.filters["actor"] = partial(language.actor, language=language_code)
    environment.filters["isolated"] = language.isolated
    environment.filters["duration"] = partial(language.duration, language=language_code)
    environment.globals.update(LANGUAGES=LANGUAGES, Role=Role, new_form_key=new_form_key)
    return environment

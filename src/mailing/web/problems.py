"""Problem documents (RFC 9457) for every error of a request."""

from collections.abc import Mapping

from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.params import ParameterKwarg
from litestar.types import ASGIApp, HTTPScope
from litestar.types.composite_types import ExceptionHandlersMap
from litestar.typing import FieldDefinition
from msgspec import Struct

from mailing import errors
from mailing.database.errors import DATABASE_ERRORS, READ_ONLY, is_transient, lacks_space, sqlstate
from mailing.errors import FieldError
from mailing.observability import failures, log
from mailing.web.methods import allowed
from mailing.web.state import AnyRequest

logger = log.get(__name__)

PROBLEM_JSON = "application/problem+json"


class Problem(Struct):
    """An error in the format of RFC 9457. `errors` names every invalid field of the input."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"
    errors: list[FieldError] = []


TITLES = {
    400: "Invalid input",
    401: "Not authorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    409: "Conflict",
    413: "Too large",
    414: "Too long",
    421: "Misdirected request",
    422: "Key used before",
    429: "Too many requests",
    431: "Headers too large",
    500: "Internal error",
    503: "Unavailable, try again",
}

_STATUS: Mapping[type[errors.MailingError], int] = {
    errors.Invalid: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.KeyReused: 422,
    errors.TooMany: 429,
    errors.TooSlow: 408,
    errors.Unavailable: 503,
}

_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "5"}}


def problem(status: int, detail: str, fields: list[FieldError] | None = None) -> Response[Problem]:
    field_errors = [FieldError(each.field, each.message) for each in fields or []]
    return Response(
        Problem(title=TITLES.get(status, "Error"), status=status, detail=detail, errors=field_errors),
        status_code=status,
        media_type=PROBLEM_JSON,
        headers=_HEADERS.get(status, {}),
    )


def refusal(status: int, detail: str, scope: HTTPScope) -> ASGIApp:
    """Return an ASGI application that answers with a problem: for middleware outside the routing."""
    return problem(status, detail).to_asgi_response(None, Request(scope))


def _refused(_: AnyRequest, error: errors.MailingError) -> Response[Problem]:
    fields = error.errors if isinstance(error, errors.Invalid | errors.Conflict) else None
    detail = "See errors for each bad field." if isinstance(error, errors.Invalid) else str(error)
    status = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
    answer = problem(status, detail, fields)
    if isinstance(error, errors.TooMany):
        answer.headers["Retry-After"] = str(error.wait_s)
    return answer


def _invalid_parameters(request: AnyRequest, error: ValidationException) -> Response[Problem]:
    parameters = request.route_handler.parsed_fn_signature.parameters
    names = [str(found.get("key", "")) for found in error.extra or [] if isinstance(found, Mapping)]
    fields = [
        refused_value(parameters[name]) if name in parameters and name != "data" else FieldError("body", "is required")
        for name in names
    ]
    return problem(400, "See errors for each bad field." if fields else error.detail, fields)


def _http(_: AnyRequest, error: HTTPException) -> Response[Problem]:
    answer = problem(error.status_code, error.detail)
    answer.headers.update(error.headers or {})
    if "allow" in answer.headers:
        answer.headers["allow"] = allowed(answer.headers["allow"].split(", "))
    return answer


def _too_large(request: AnyRequest, _: RequestEntityTooLarge) -> Response[Problem]:
    return problem(413, f"The body may have at most {request.route_handler.resolve_request_max_body_size():,} bytes.")


def _database(request: AnyRequest, error: Exception) -> Response[Problem]:
    if lacks_space(error):
        logger.error("no space for temporary files", path=request.url.path)
        return problem(503, "The server has no space left for temporary files. Nothing was changed.")
    if not is_transient(error):
        return _unexpected(request, error)
    failures.log(logger, "database unavailable", error, path=request.url.path)
    if sqlstate(error) == READ_ONLY:
        return problem(503, "The database is read-only (a standby). Nothing was changed.")
    return problem(503, f"The database is unavailable. Try again in a few seconds.{_retry_advice(request)}")


RETRY_ADVICE = "retry_advice"  # a key in a route's `opt`: what the caller should do after a lost answer


def _retry_advice(request: AnyRequest) -> str:
    if request.method == "GET":
        return ""
    if request.method == "POST" and "idempotency-key" in request.headers:
        return " With the same Idempotency-Key the change is made only once."
    if advice := getattr(request.scope.get("route_handler"), "opt", {}).get(RETRY_ADVICE):
        return f" {advice}"
    return " The change may have been applied. Check before you retry."


def _unexpected(request: AnyRequest, error: Exception) -> Response[Problem]:
    logger.error("unexpected error", path=request.url.path, method=request.method, exc_info=error)
    return problem(500, "An unexpected error occurred. It was logged.")


def _at_commit(request: AnyRequest, error: ExceptionGroup[Exception]) -> Response[Problem]:
    """Unwrap the error of a dependency's end, such as a failed COMMIT or a lost connection."""
    return problem_of(request, error.exceptions[0])


EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    errors.MailingError: _refused,
    ValidationException: _invalid_parameters,
    HTTPException: _http,
    RequestEntityTooLarge: _too_large,
    **dict.fromkeys(DATABASE_ERRORS, _database),
    ExceptionGroup: _at_commit,
    Exception: _unexpected,
}


def problem_of(request: AnyRequest, error: Exception) -> Response[Problem]:
    handler = next(EXCEPTION_HANDLERS[kind] for kind in type(error).__mro__ if kind in EXCEPTION_HANDLERS)
    answer: Response[Problem] = handler(request, error)
    return answer


def refused_value(field: FieldDefinition) -> FieldError:
    definition = field.kwarg_definition
    if not isinstance(definition, ParameterKwarg):
        return FieldError(field.name, "must be another value")
    return FieldError(definition.name or field.name, f"must be {definition.description or 'another value'}")

"""What every route shares: bodies, lists, and the one table from errors to HTTP answers (RFC 9457)."""

import base64
from collections.abc import Generator, Mapping, Sequence
from itertools import islice
from typing import Annotated, Any, Generic, TypeVar

import asyncpg
import msgspec
import structlog
from litestar import Request, Response
from litestar._openapi.schema_generation import SchemaCreator
from litestar.connection import ASGIConnection
from litestar.constants import RESERVED_KWARGS
from litestar.di import NamedDependency
from litestar.dto import AbstractDTO, DTOFieldDefinition
from litestar.dto._backend import DTOBackend
from litestar.enums import ParamType
from litestar.exceptions import HTTPException, ValidationException
from litestar.handlers import BaseRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Reference, Schema
from litestar.params import ParameterKwarg, PathParameter, QueryParameter
from litestar.types.composite_types import ExceptionHandlersMap
from litestar.typing import FieldDefinition
from msgspec import Struct
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession

from mailing import errors
from mailing.db import READ_ONLY, is_transient, sqlstate
from mailing.errors import FieldError
from mailing.parsing import MOST_STRAYS, parse

logger = structlog.get_logger(__name__)

T = TypeVar("T")
S = TypeVar("S", bound=Struct)

PROBLEM_JSON = "application/problem+json"

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})  # methods that change nothing
MAX_ID = 2**53 - 1  # where whole numbers in JavaScript end; the database's go on to 2**63
Session = NamedDependency[AsyncSession]  # `idempotency.provide_session`
Caller = NamedDependency[str]  # `provide_caller`
# A parameter's description is a phrase that follows "must be" when its value is refused, as in `parsing`.
Id = Annotated[int, PathParameter(ge=1, le=MAX_ID, description="an id, 1 or greater")]
Limit = Annotated[int, QueryParameter(ge=1, le=500, description="1 to 500, the number of items on a page")]
Cursor = Annotated[
    str | None,
    QueryParameter(
        pattern="^[A-Za-f][A-Za-z0-9_-]{9}[AEIMQUYcgkosw048]$",  # 8 bytes in base64, the first bit 0
        min_length=11,
        max_length=11,
        description="the next_cursor of the page before",
    ),
]


class Page(Struct, Generic[T]):
    """One page of a list; `next_cursor` is null on the last one."""

    items: list[T]
    next_cursor: str | None


class Problem(Struct):
    """An error, as RFC 9457 has it. `errors` names every bad field of the input."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"
    errors: list[FieldError] = []


def page(rows: Sequence[T], limit: int, key: str = "id") -> Page[T]:
    """Takes one row more than `limit`, which tells whether there is a next page."""
    items = list(rows[:limit])
    return Page(items, encode_cursor(getattr(items[-1], key)) if len(rows) > limit else None)


def encode_cursor(value: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes(8, "big")).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> int:
    """The id after which the page begins; 0 without a cursor. The parameter `Cursor` lets no other text through."""
    return int.from_bytes(base64.urlsafe_b64decode(f"{cursor}="), "big") if cursor else 0


async def provide_caller(request: Request[str, Any, Any]) -> str:
    """Who asks, as the guard found out: for the record of events."""
    return request.user


class Body(AbstractDTO[S], Generic[S]):
    """`dto=Body[ClientIn]` reads the body by `parsing.parse`; the documentation shows the struct as it is."""

    @classmethod
    def create_for_field_definition(
        cls,
        field_definition: FieldDefinition,
        handler_id: str,
        backend_cls: type[DTOBackend] | None = None,
    ) -> None:
        """There is no transfer model to prepare."""

    @classmethod
    def create_openapi_schema(
        cls, field_definition: FieldDefinition, handler_id: str, schema_creator: SchemaCreator
    ) -> Reference | Schema:
        del handler_id
        return schema_creator.for_field_definition(field_definition)

    @classmethod
    def generate_field_definitions(cls, model_type: type[Any]) -> Generator[DTOFieldDefinition, None, None]:
        del model_type
        yield from ()

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:
        del field_definition
        return False

    def decode_bytes(self, value: bytes) -> S:
        return parse(value, self.model_type)


def documented(*statuses: int) -> dict[int, ResponseSpec]:
    """The errors a route can answer with, for the API documentation; 401, 403, 429 and 503 come with every route."""
    slow = {408} if 413 in statuses else set()  # where there is a body
    return {
        status: ResponseSpec(Problem, description=_TITLES[status], media_type=PROBLEM_JSON, generate_examples=False)
        for status in sorted({*statuses, *slow, 401, 403, 429, 503})
    }


_TITLES = {
    400: "Invalid input",
    401: "Not authorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    409: "Conflict",
    413: "Too large",
    414: "Too long",
    422: "Key used before",
    429: "Too many requests",
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
    return Response(
        Problem(title=_TITLES.get(status, "Error"), status=status, detail=detail, errors=fields or []),
        status_code=status,
        media_type=PROBLEM_JSON,
        headers=_HEADERS.get(status, {}),
    )


def _refused(_: Request[Any, Any, Any], error: errors.MailingError) -> Response[Problem]:
    fields = error.errors if isinstance(error, errors.Invalid | errors.Conflict) else None
    detail = "See errors for each bad field." if isinstance(error, errors.Invalid) else str(error)
    status = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
    answer = problem(status, detail, fields)
    if isinstance(error, errors.TooMany):
        answer.headers["Retry-After"] = str(error.wait_s)
    return answer


def _invalid_parameters(request: Request[Any, Any, Any], error: ValidationException) -> Response[Problem]:
    parameters = request.route_handler.parsed_fn_signature.parameters
    names = [str(found.get("key", "")) for found in error.extra or [] if isinstance(found, Mapping)]
    fields = [
        _refused_value(parameters[name]) if name in parameters and name != "data" else FieldError("body", "is required")
        for name in names
    ]
    return problem(400, "See errors for each bad field." if fields else error.detail, fields)


def _http(_: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    answer = problem(error.status_code, error.detail)
    answer.headers.update(error.headers or {})
    return answer


def _database(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    if not is_transient(error):
        return _bug(request, error)
    logger.warning("database unavailable", path=request.url.path, error=type(error).__name__)
    if sqlstate(error) == READ_ONLY:
        return problem(503, "The database only reads now, as one that follows another does; nothing was changed.")
    return problem(503, f"The database can't answer now; try again in a few seconds.{_doubt(request)}")


REPEATABLE = "repeatable"  # of a route, in its `opt`: what doing it again means


def _doubt(request: Request[Any, Any, Any]) -> str:
    if request.method == "GET":
        return ""
    if request.method == "POST" and "idempotency-key" in request.headers:
        return " With the same Idempotency-Key the change is made only once."
    if told := getattr(request.scope.get("route_handler"), "opt", {}).get(REPEATABLE):
        return f" {told}"
    return " Look first: the change may have been made."


def _bug(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    logger.error("unexpected error", path=request.url.path, method=request.method, exc_info=error)
    return problem(500, "Something went wrong here; it has been logged.")


def _at_the_end(request: Request[Any, Any, Any], error: ExceptionGroup[Exception]) -> Response[Problem]:
    """Litestar wraps what a dependency raises when it ends: a COMMIT that failed, a connection that is gone."""
    cause = error.exceptions[0]
    handler = next(EXCEPTION_HANDLERS[kind] for kind in type(cause).__mro__ if kind in EXCEPTION_HANDLERS)
    answer: Response[Problem] = handler(request, cause)
    return answer


EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    errors.MailingError: _refused,
    ValidationException: _invalid_parameters,
    HTTPException: _http,
    PoolTimeout: _database,
    DBAPIError: _database,
    asyncpg.PostgresError: _database,  # from the driver itself: when connecting, and in `db.driver`
    asyncpg.InterfaceError: _database,
    asyncpg.InternalClientError: _database,
    OSError: _database,
    ExceptionGroup: _at_the_end,
    Exception: _bug,
}


async def known_parameters_only(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A mistyped filter would select everything, so unknown query parameters are refused.

    Parameters are those of the handler itself; what a dependency reads from the query counts as unknown.
    """
    if not connection.scope["query_string"]:
        return
    elsewhere = {*RESERVED_KWARGS, *handler.resolve_dependencies(), *connection.path_params}
    known = {
        getattr(field.kwarg_definition, "name", None) or name: field
        for name, field in handler.parsed_fn_signature.parameters.items()
        if name not in elsewhere and getattr(field.kwarg_definition, "param_type", ParamType.QUERY) is ParamType.QUERY
    }
    stray = f"is not a parameter here; known are {', '.join(known)}" if known else "is not a parameter: there are none"
    strays = (name for name in connection.query_params if name not in known)
    unknown = [FieldError(name[:100], stray) for name in islice(strays, MOST_STRAYS)]
    if unknown:
        types = handler.signature_model.__annotations__
        bad = [_refused_value(field) for name, field in known.items() if not _fits(connection, name, types[field.name])]
        raise errors.Invalid(*unknown, *bad)


def _fits(connection: ASGIConnection[Any, Any, Any, Any], name: str, kind: Any) -> bool:  # noqa: ANN401 - any type hint
    """Whether a query parameter that was given can be read; Litestar itself stops at the guard."""
    if name not in connection.query_params:
        return True
    try:
        msgspec.convert(connection.query_params[name], kind, strict=False)
    except msgspec.ValidationError:
        return False
    return True


def _refused_value(field: FieldDefinition) -> FieldError:
    definition = field.kwarg_definition
    if not isinstance(definition, ParameterKwarg):
        return FieldError(field.name, "must be another value")
    return FieldError(definition.name or field.name, f"must be {definition.description or 'another value'}")

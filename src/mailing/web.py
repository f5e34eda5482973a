"""What every route shares: bodies, lists, and the one table from errors to HTTP answers (RFC 9457)."""

import base64
import binascii
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from typing import Annotated, Any, Generic, TypeVar

import structlog
from litestar import MediaType, Request, Response
from litestar._openapi.schema_generation import SchemaCreator
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.dto import AbstractDTO, DTOFieldDefinition
from litestar.dto._backend import DTOBackend
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Reference, Schema
from litestar.params import Parameter
from litestar.types import ASGIApp, Receive, Scope, Send
from litestar.types.composite_types import ExceptionHandlersMap
from litestar.typing import FieldDefinition
from msgspec import Struct
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession

from mailing import errors
from mailing.db import transaction
from mailing.errors import FieldError
from mailing.parsing import parse

logger = structlog.get_logger(__name__)

T = TypeVar("T")
S = TypeVar("S", bound=Struct)

MAX_ID = 2**63 - 1
Id = Annotated[int, Parameter(ge=1, le=MAX_ID)]
Limit = Annotated[int, Parameter(ge=1, le=500, description="How many items a page holds")]
Cursor = Annotated[str | None, Parameter(max_length=64, description="The `next_cursor` of the page before")]


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
    return base64.urlsafe_b64encode(str(value).encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> int:
    """The id after which the page begins; 0 without a cursor."""
    if cursor is None:
        return 0
    try:
        value = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        value = ""
    if not value.isdecimal() or not 0 < int(value) <= MAX_ID:
        raise errors.Invalid(FieldError("cursor", "is not a cursor of this list; take next_cursor of the page before"))
    return int(value)


async def provide_session(state: State) -> AsyncIterator[AsyncSession]:
    """The request's transaction: committed when the handler returns, before the answer is sent."""
    async with transaction(state.sessions) as session:
        yield session


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
    """The errors a route can answer with, for the API documentation; 401 and 503 come with every route."""
    return {
        status: ResponseSpec(Problem, description=_TITLES[status], media_type=MediaType.JSON, generate_examples=False)
        for status in sorted({*statuses, 401, 503})
    }


class LowerCaseClients:
    """ASGI middleware: `/mailing/api/Clients`, as the customer wrote it, is `/mailing/api/clients`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        prefix = "/mailing/api/Clients"
        path = scope.get("path", "")
        if path == prefix or path.startswith(prefix + "/"):
            scope["path"] = prefix.lower() + path.removeprefix(prefix)
            scope["raw_path"] = scope["path"].encode()
        await self.app(scope, receive, send)


_TITLES = {
    400: "Invalid input",
    401: "Not authorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Too large",
    429: "Too many requests",
    500: "Internal error",
    503: "Unavailable, try again",
}

_STATUS: Mapping[type[errors.MailingError], int] = {
    errors.Invalid: 400,
    errors.Unauthorized: 401,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.TooLarge: 413,
    errors.Unavailable: 503,
}

_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "5"}}


def problem(status: int, detail: str, fields: list[FieldError] | None = None) -> Response[Problem]:
    return Response(
        Problem(title=_TITLES.get(status, "Error"), status=status, detail=detail, errors=fields or []),
        status_code=status,
        media_type="application/problem+json",
        headers=_HEADERS.get(status, {}),
    )


def _refused(_: Request[Any, Any, Any], error: errors.MailingError) -> Response[Problem]:
    fields = error.errors if isinstance(error, errors.Invalid) else None
    detail = "See errors for each bad field." if fields else str(error)
    return problem(_STATUS[type(error)], detail, fields)


def _invalid_parameters(_: Request[Any, Any, Any], error: ValidationException) -> Response[Problem]:
    extra = error.extra if isinstance(error.extra, list) else []
    fields = [
        FieldError(str(found.get("key") or "body").removeprefix("data"), str(found.get("message", "")).replace("`", ""))
        for found in extra
        if isinstance(found, dict)
    ]
    return problem(400, "See errors for each bad field." if fields else error.detail, fields)


def _http(_: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    answer = problem(error.status_code, error.detail)
    answer.headers.update(error.headers or {})
    return answer


def _database(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    if isinstance(error, DBAPIError) and not (error.connection_invalidated or isinstance(error.orig, OSError)):
        return _bug(request, error)
    logger.warning("database unavailable", path=request.url.path, error=type(error).__name__)
    return problem(503, "The database can't answer now; nothing was changed. Try again in a few seconds.")


def _bug(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    logger.error("unexpected error", path=request.url.path, method=request.method, exc_info=error)
    return problem(500, "Something went wrong here; it has been logged.")


EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    errors.MailingError: _refused,
    ValidationException: _invalid_parameters,
    HTTPException: _http,
    PoolTimeout: _database,
    DBAPIError: _database,
    OSError: _database,
    Exception: _bug,
}


def known_parameters_only(connection: ASGIConnection[Any, Any, Any, Any], handler: Any) -> None:  # noqa: ANN401 - a guard
    """A mistyped filter would select everything: unknown query parameters are refused."""
    known = {field.alias or name for name, field in handler.parsed_fn_signature.parameters.items()}
    unknown = [
        FieldError(name[:100], f"is not a parameter here; known are {', '.join(sorted(known))}")
        for name in connection.query_params
        if name not in known
    ]
    if unknown:
        raise errors.Invalid(*unknown)

"""Types of path and query parameters, dependencies of handlers, and documented errors."""

from functools import lru_cache
from typing import Annotated, Any

import msgspec
from litestar._openapi.schema_generation import SchemaCreator
from litestar.constants import RESERVED_KWARGS
from litestar.di import NamedDependency
from litestar.dto import AbstractDTO
from litestar.dto._backend import DTOBackend
from litestar.enums import ParamType
from litestar.handlers import BaseRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Reference, Schema
from litestar.params import PathParameter, QueryParameter
from litestar.typing import FieldDefinition
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from mailing import errors
from mailing.errors import FieldError
from mailing.web.problems import PROBLEM_JSON, TITLES, Problem, refused_value
from mailing.web.state import AnyConnection, AnyRequest
from mailing.web.validation import MAX_UNKNOWN_FIELDS, parse

REPLACEMENT = b"%EF%BF%BD"  # U+FFFD, as a caller encodes it; otherwise it stands for bytes that are not UTF-8
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})  # methods that change nothing
MAX_ID = 2**53 - 1  # where whole numbers in JavaScript end; the database's go on to 2**63
Session = NamedDependency[AsyncSession]  # `idempotency.provide_session`
Caller = NamedDependency[str]  # `provide_caller`
# A parameter's description is a phrase that follows "must be" when its value is refused, as in `validation`.
Id = Annotated[int, PathParameter(ge=1, le=MAX_ID, description="an id, 1 or greater")]
QueryId = Annotated[int, QueryParameter(ge=1, le=MAX_ID, description="an id, 1 or greater")]
OptionalId = Annotated[int | None, QueryParameter(ge=1, le=MAX_ID, description="an id, 1 or greater")]


def exact_int(value: str) -> int:
    """Parse a number that is written as its decimal digits. int() would take 1_0, +1, ٣ and 01, too."""
    number = int(value)
    if str(number) != value:
        raise ValueError
    return number


async def provide_caller(request: AnyRequest) -> str:
    """Provide the key or the user that the guard found, for the events."""
    return str(request.user)


class Body(AbstractDTO[Any]):
    """Reads the body of a handler's `data` by `validation.parse`; the documentation shows the struct as it is."""

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

    def decode_bytes(self, value: bytes) -> Struct:
        kind: type[Struct] = self.asgi_connection.route_handler.parsed_data_field.annotation
        return parse(value, kind)


def documented(*statuses: int) -> dict[int, ResponseSpec]:
    """Document a route's own errors. `openapi_document` adds those that its path and its body bring."""
    return {
        status: ResponseSpec(Problem, description=TITLES[status], media_type=PROBLEM_JSON, generate_examples=False)
        for status in statuses
    }


def known_parameters_only(connection: AnyConnection, handler: BaseRouteHandler) -> None:
    """Refuse query parameters that are unknown, repeated, not in UTF-8, or a number in another form: 1e1.

    A mistyped filter would select everything, of a repeated one only the last value would count, and one in another
    encoding would select nothing.

    Only the handler's own parameters are known, not those that a dependency reads.
    """
    query = connection.scope["query_string"]
    if not query:
        return
    known = _query_parameters(handler, tuple(connection.path_params))
    given = [name for name, _ in connection.query_params.items()]  # in order, unlike multi_items()
    strays = [name for name in dict.fromkeys(given) if name not in known]
    repeated = [FieldError(name, "is given more than once; send one value") for name in known if given.count(name) > 1]
    garbled = [name for name, value in connection.query_params.items() if "\ufffd" in value]
    undecoded = [] if REPLACEMENT in query.upper() else garbled
    values = _converted_values(connection, handler, known)
    inexact = _inexact(connection, values)
    if strays or repeated or undecoded or inexact:
        others = f" here; known are {', '.join(known)}" if known else ": there are none"
        bad = [
            FieldError(name, "must be encoded in UTF-8") if name in undecoded else refused_value(known[name])
            for name, value in values.items()
            if name in undecoded or name in inexact or value is _INVALID
        ]
        unknown = [FieldError(name[:100], f"is not a parameter{others}") for name in strays[:MAX_UNKNOWN_FIELDS]]
        raise errors.Invalid(*unknown, *repeated, *bad)


def exact_numbers_only(connection: AnyConnection, handler: BaseRouteHandler) -> None:
    """Refuse query parameters that are a number in another form: 1e1. A Litestar guard."""
    if connection.scope["query_string"]:
        known = _query_parameters(handler, tuple(connection.path_params))
        inexact = _inexact(connection, _converted_values(connection, handler, known))
        if inexact:
            raise errors.Invalid(*(refused_value(known[name]) for name in inexact))


@lru_cache(256)
def _query_parameters(handler: BaseRouteHandler, path_params: tuple[str, ...]) -> dict[str, FieldDefinition]:
    elsewhere = {*RESERVED_KWARGS, *handler.resolve_dependencies(), *path_params}
    return {
        getattr(field.kwarg_definition, "name", None) or name: field
        for name, field in handler.parsed_fn_signature.parameters.items()
        if name not in elsewhere and getattr(field.kwarg_definition, "param_type", ParamType.QUERY) is ParamType.QUERY
    }


_INVALID = object()


def _converted_values(
    connection: AnyConnection, handler: BaseRouteHandler, known: dict[str, FieldDefinition]
) -> dict[str, object]:
    types, given = handler.signature_model.__annotations__, connection.query_params
    return {name: _converted(given[name], types[known[name].name]) for name in known if name in given}


def _inexact(connection: AnyConnection, values: dict[str, object]) -> list[str]:
    given = connection.query_params
    return [name for name, value in values.items() if type(value) is int and str(value) != given[name]]


def _converted(value: str, kind: Any) -> object:  # noqa: ANN401 - any type hint
    """Convert a query parameter as Litestar does after the guards; _INVALID if it refuses the value."""
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError:
        return _INVALID

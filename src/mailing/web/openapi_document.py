"""The OpenAPI document: what every route has in common, said once."""

import re
from collections.abc import Iterator
from typing import Any

from litestar.openapi.spec import OpenAPI

from mailing.web import idempotency, idempotency_keys
from mailing.web.problems import PROBLEM_JSON, TITLES


class Document(OpenAPI):
    """Documents what applies to every route, and what generators of clients ask for."""

    def to_schema(self) -> dict[str, Any]:
        schema = _with_plain_names(super().to_schema())
        for path, item in schema["paths"].items():
            for operation in item.values() if path.startswith("/mailing/api/") else ():
                _add_errors(operation, path)
            if path.startswith("/mailing/api/") and "post" in item:
                _add_key(item["post"])
            for operation in item.values():
                _forbid_unknown_fields(operation.get("requestBody", {}), schema["components"]["schemas"])
                _type_headers(operation)
        _add_integer_formats(schema)
        return schema


_PAGE = re.compile(r"Page_(?:\w+\.)*(\w+?)(?:Out)?_")  # Litestar's name of Page[mailing.clients.schemas.ClientOut]


def _with_plain_names(document: dict[str, Any]) -> dict[str, Any]:
    """Call a page of clients `ClientPage`: generators make class names of schema names."""
    schemas = document["components"]["schemas"]
    names = {name: _PAGE.sub(r"\1Page", name) for name in schemas}
    document["components"]["schemas"] = {
        names[name]: schema | {"title": names[name]} for name, schema in schemas.items()
    }
    for node in _nodes(document):
        if isinstance(reference := node.get("$ref"), str):
            prefix, _, name = reference.rpartition("/")
            node["$ref"] = f"{prefix}/{names.get(name, name)}"
    return document


def _nodes(node: object) -> Iterator[dict[str, Any]]:
    """Walk all objects of the document."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _nodes(child)


def _type_headers(operation: dict[str, Any]) -> None:
    """Give a schema to headers that have none, such as Litestar's documented ones: a header must have one."""
    for response in operation["responses"].values():
        for name, header in response.get("headers", {}).items():
            header.setdefault("schema", {"type": "string"} | _HEADER_FORMATS.get(name, {}))


_HEADER_FORMATS = {"Location": {"format": "uri-reference"}}


def _add_integer_formats(document: dict[str, Any]) -> None:
    """Say int64, unless a maximum says that less is enough: without a format generators take 32 bits."""
    for node in _nodes(document):
        if node.get("type") == "integer":
            node.setdefault("format", "int32" if node.get("maximum", 2**63) < 2**31 else "int64")


def _forbid_unknown_fields(schema: object, schemas: dict[str, Any]) -> None:
    """Set `additionalProperties: false` in a schema and those it refers to, as `validation` refuses unknown fields."""
    for node in _nodes(schema):
        if "properties" in node:
            node["additionalProperties"] = False
        if "$ref" in node:
            _forbid_unknown_fields(schemas[node["$ref"].rpartition("/")[2]], schemas)


def _add_errors(operation: dict[str, Any], path: str) -> None:
    """Add the errors that every route has, one with an id, and one with a body, which may also arrive too slowly."""
    statuses = {400, 401, 403, 429, 503} | ({404} if "{" in path else set())
    statuses |= {408, 413} if "requestBody" in operation else set()
    operation["responses"] |= {str(status): _problem(TITLES[status]) for status in statuses}
    operation["responses"] = dict(sorted(operation["responses"].items()))


def _problem(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def _add_key(operation: dict[str, Any]) -> None:
    operation["parameters"] = [*operation.get("parameters", []), _KEY]
    operation["responses"] = _KEY_RESPONSES | operation["responses"]
    for status, response in operation["responses"].items():
        if status < "300":
            response["headers"] = response.get("headers", {}) | _REPLAYED


_KEY = {
    "name": idempotency.HEADER,
    "in": "header",
    "required": False,
    "description": f"{idempotency.RULE}. The same request with the same key is done once: again it gets the answer of "
    f"the first time, for {idempotency_keys.RETENTION_H} hours.",
    "schema": {"type": "string", "pattern": idempotency.PATTERN, "minLength": 1, "maxLength": idempotency.MAX_LENGTH},
}
_REPLAYED = {
    idempotency.REPLAYED: {
        "description": "The answer to an earlier request with this key",
        "schema": {"type": "string", "const": "true"},
    }
}
_KEY_RESPONSES = {
    "409": _problem("Conflict, or a request with this key is in progress"),
    "422": _problem("The key was used for another request"),
}

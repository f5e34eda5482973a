"""What an OpenAPI document must hold: the structure that 3.1 asks for, and the promises of this API."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}

Operation = Mapping[str, Any]


def faults(document: Mapping[str, Any]) -> list[str]:
    """One sentence for each rule that the document breaks."""
    found = [*_structure(document), *_bad_schemas(document, document), *_repeated_names(document)]
    found += _untyped(document)
    for method, path, operation in operations(document):
        found += [f"{method.upper()} {path}: {fault}" for fault in _operation(path, operation)]
        if path.startswith("/mailing/api"):
            found += [f"{method.upper()} {path}: {fault}" for fault in _promises(document, path, operation)]
    return found


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Operation]]:
    for path, item in document["paths"].items():
        yield from ((method, path, operation) for method, operation in item.items() if method in METHODS)


def _structure(document: Mapping[str, Any]) -> Iterator[str]:
    if not re.fullmatch(r"3\.1\.\d+", document["openapi"]):
        yield "openapi must be 3.1.x"
    yield from (f"info.{name} is missing" for name in ("title", "version") if not document["info"].get(name))
    yield from (f"{path} must begin with a slash" for path in document["paths"] if not path.startswith("/"))
    for kind, components in document["components"].items():
        bad = [name for name in components if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9]*", name)]
        yield from (f"{kind}.{name} has a bad name" for name in bad)
    if repeated := _repeated(tag["name"] for tag in document["tags"]):
        yield f"tags are declared twice: {repeated}"


def _bad_schemas(document: Mapping[str, Any], node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(reference := node.get("$ref"), str) and not _resolves(document, reference):
            yield f"{reference} leads nowhere"
        if "nullable" in node and isinstance(node["nullable"], bool):
            yield "nullable is of OpenAPI 3.0"
        if isinstance(pattern := node.get("pattern"), str) and re.search(r"\\[AZz]|\(\?P", pattern):
            yield f"{pattern} is no pattern in JavaScript, which OpenAPI asks for"
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _bad_schemas(document, child)


def _resolves(document: Mapping[str, Any], reference: str) -> bool:
    target: Any = document
    for part in reference.removeprefix("#/").split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(target, dict) or key not in target:
            return False
        target = target[key]
    return reference.startswith("#/")


def _repeated_names(document: Mapping[str, Any]) -> Iterator[str]:
    if repeated := _repeated(operation.get("operationId", "") for _, _, operation in operations(document)):
        yield f"operationId is not unique: {repeated}"


def _untyped(document: Mapping[str, Any]) -> Iterator[str]:
    """Without these, generators guess: 32 bits for an id, one class for two schemas, nothing for an answer."""
    schemas = document["components"]["schemas"]
    if repeated := _repeated(name.lower() for name in schemas):
        yield f"schemas have one name in upper or lower case: {repeated}"
    if wrong := [name for name, schema in schemas.items() if schema.get("title", name) != name]:
        yield f"titles are not the names of their schemas: {wrong}"
    if count := sum(1 for node in _nodes(document) if node.get("type") == "integer" and "format" not in node):
        yield f"{count} integers have no format"
    for method, path, operation in operations(document):
        for status, response in operation["responses"].items():
            where = f"{method.upper()} {path}: response {status}"
            headers = response.get("headers", {}).items()
            yield from (f"{where}: {name} has no schema" for name, header in headers if not header.get("schema"))
            if (status == "204") == any(media.get("schema") for media in response.get("content", {}).values()):
                yield f"{where} must have a content with a schema, and 204 none"
            if status == "201" and "Location" not in dict(headers):
                yield f"{where} has no Location"


def _nodes(node: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _nodes(child)


def _operation(path: str, operation: Operation) -> Iterator[str]:
    parameters = operation.get("parameters", [])
    named = [(parameter["name"], parameter["in"]) for parameter in parameters]
    if repeated := _repeated(named):
        yield f"parameters are declared twice: {repeated}"
    for name in re.findall(r"{(\w+)}", path):
        if not any(p["name"] == name and p["in"] == "path" and p["required"] for p in parameters):
            yield f"the path parameter {name} is not declared"
    if not operation["responses"]:
        yield "no response is documented"
    for status, response in operation["responses"].items():
        if not re.fullmatch(r"[1-5]\d\d|default", status) or not response.get("description"):
            yield f"response {status} has a bad status or no description"


def _promises(document: Mapping[str, Any], path: str, operation: Operation) -> Iterator[str]:
    if " " not in operation.get("summary", ""):
        yield "write a summary of more than one word; Litestar makes one word of the handler's name"
    if not re.fullmatch(r"[a-z]+(_[a-z]+)*", operation.get("operationId", "")):
        yield "name its function as list_clients is: generated clients take it for the method's name"
    if operation.get("security") != [{"key": []}]:
        yield "security must be the key"
    declared = {tag["name"] for tag in document["tags"]}
    if not operation.get("tags") or not declared.issuperset(operation["tags"]):
        yield f"tags must be of {sorted(declared)}"
    expected = {"400", "401", "429", "503"} | ({"404"} if "{" in path else set())
    yield from (f"{status} is not documented" for status in sorted(expected - operation["responses"].keys()))
    for status, response in operation["responses"].items():
        if status >= "400" and response.get("content") != PROBLEM:
            yield f"{status} is not a Problem in application/problem+json"


def _repeated(names: Any) -> list[Any]:  # noqa: ANN401 - strings or pairs of them
    return [name for name, times in Counter(names).items() if times > 1]

"""JSON into a struct, with every bad field named at once (msgspec alone stops at the first).

A field's `Meta(description=…)` is a phrase that reads well in the API documentation and after "must be": one text
serves both. A struct may add rules over several fields as a static method
`contradictions(fields: Mapping[str, Any]) -> Iterator[FieldError]`; it is given the fields that are
right by themselves.
"""

import types
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from mailing.errors import FieldError, Invalid

S = TypeVar("S", bound=Struct)


def parse(body: bytes, kind: type[S]) -> S:
    """Raises Invalid; a body that is no JSON object is an error of the field `body`."""
    try:
        value = msgspec.json.decode(body)
    except RecursionError:
        raise Invalid(FieldError("body", "is nested too deeply")) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = str(error).partition(" - at ")[0]
        raise Invalid(FieldError("body", f"is not valid JSON: {reason}")) from None
    return check(value, kind)


def check(value: object, kind: type[S]) -> S:
    errors: list[FieldError] = []
    result = _struct(value, kind, "", errors)
    if errors:
        raise Invalid(*errors)
    return cast("S", result)


def _struct(value: object, kind: type[Struct], path: str, errors: list[FieldError]) -> Struct | None:
    if not isinstance(value, dict):
        errors.append(FieldError(path or "body", "must be a JSON object"))
        return None
    before = len(errors)
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    hints = get_type_hints(kind, include_extras=True)
    good: dict[str, Any] = {}
    stray = f"is not a field here; known are {', '.join(fields)}"
    errors.extend(FieldError(path + name[:100], stray) for name in value if name not in fields)
    for name, field in fields.items():
        if name not in value:
            if field.required:
                errors.append(FieldError(path + name, "is required"))
            continue
        mark = len(errors)
        converted = _field(value[name], hints[field.name], path + name, errors)
        if len(errors) == mark:
            good[field.name] = converted
    if contradictions := getattr(kind, "contradictions", None):
        errors.extend(FieldError(path + found.field, found.message) for found in contradictions(good))
    return kind(**good) if len(errors) == before else None


def _field(value: object, hint: Any, path: str, errors: list[FieldError]) -> object:  # noqa: ANN401 - any type hint
    if value is not None and (nested := _nested_struct(hint)):
        return _struct(value, nested, path + ".", errors)
    if isinstance(value, str) and "\x00" in value:
        errors.append(FieldError(path, "must not contain a NUL character"))
        return None
    try:
        return msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        sentence, _, inside = str(error).partition(" - at `$")
        where = inside.rstrip("`").replace("[", ".").replace("]", "")
        phrase = _description(hint)
        errors.append(FieldError(path + where, f"must be {phrase}" if phrase else sentence.replace("`", "").lower()))
        return None


def _nested_struct(hint: Any) -> type[Struct] | None:  # noqa: ANN401 - any type hint
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    options = get_args(hint) if get_origin(hint) in {Union, types.UnionType} else (hint,)
    return next((kind for kind in options if isinstance(kind, type) and issubclass(kind, Struct)), None)


def _description(hint: Any) -> str | None:  # noqa: ANN401 - any type hint
    """The innermost-first description; an optional field's stands inside the union."""
    if get_origin(hint) is Annotated:
        return next((meta.description for meta in get_args(hint)[1:] if isinstance(meta, Meta)), None)
    found = (_description(option) for option in get_args(hint))
    return next((phrase for phrase in found if phrase), None)


def present(data: Struct) -> Mapping[str, Any]:
    """The fields of a PATCH that were given."""
    return {name: value for name, value in msgspec.structs.asdict(data).items() if value is not msgspec.UNSET}

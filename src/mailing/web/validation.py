"""JSON into a struct, with every bad field named at once (msgspec alone stops at the first).

A field's `Meta(description=…)` is a phrase that fits both the API documentation and an error after "must be". A struct
may add rules over several fields as a static method `contradictions(fields) -> Iterator[FieldError]`,
which gets the fields that are valid by themselves.
"""

import codecs
import types
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from mailing.errors import FieldError, Invalid
from mailing.reasons.refusals import Refusal, RefusalCode, RefusedField, RefusedValueError, refused_field

S = TypeVar("S", bound=Struct)

# In the `extra` of a field's Meta: a function that rewrites the value into its one form, before it is checked, or
# raises ValueError with a sentence about the field; and the code of "must be" with the description.
NORMALISE = "normalise"
REFUSAL = "refusal"

MAX_UNKNOWN_FIELDS = 100


def parse(body: bytes, kind: type[S]) -> S:
    """Parse JSON, skipping a byte order mark. Raise Invalid; if it is not an object, the field is `body`."""
    try:
        value = msgspec.json.decode(body.removeprefix(codecs.BOM_UTF8))
    except RecursionError:
        raise Invalid(FieldError("body", "is nested too deeply")) from None
    except UnicodeDecodeError:
        raise Invalid(FieldError("body", "is not valid JSON: it must be encoded in UTF-8")) from None
    except msgspec.DecodeError as error:
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
    """`path` is empty, or ends with a dot."""
    if not isinstance(value, dict):
        errors.append(FieldError(path.removesuffix(".") or "body", "must be a JSON object"))
        return None
    before = len(errors)
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    hints = get_type_hints(kind, include_extras=True)
    good: dict[str, Any] = {}
    stray = f"is not a field here; known are {', '.join(fields)}"
    unknown = (name for name in value if name not in fields)
    errors.extend(FieldError(path + name[:100], stray) for name in islice(unknown, MAX_UNKNOWN_FIELDS))
    for name, field in fields.items():
        if name not in value:
            if field.required:
                errors.append(refused_field(path + name, RefusalCode.required))
            continue
        mark = len(errors)
        converted = _field(value[name], hints[field.name], path + name, errors)
        if len(errors) == mark:
            good[field.name] = converted
    if contradictions := getattr(kind, "contradictions", None):
        errors.extend(replace(found, field=path + found.field) for found in contradictions(good))
    return kind(**good) if len(errors) == before else None


def _field(value: object, hint: Any, path: str, errors: list[FieldError]) -> object:  # noqa: ANN401 - any type hint
    if value is None and types.NoneType in get_args(hint):
        return None
    hint = _without_none(hint)
    if nested := _struct_of(hint):
        return _struct(value, nested, path + ".", errors)
    whole, item = _split_list(hint)
    try:
        converted = _converted(value, whole)
    except msgspec.ValidationError as error:
        errors.append(_mismatch(path, hint, error))
        return None
    except ValueError as error:
        refusal = error.refusal if isinstance(error, RefusedValueError) else None
        errors.append(RefusedField(path, str(error), refusal) if refusal else FieldError(path, str(error)))
        return None
    if item is None:
        return converted
    return [_field(each, item, f"{path}.{number}", errors) for number, each in enumerate(converted)]


def _mismatch(path: str, hint: Any, error: msgspec.ValidationError) -> FieldError:  # noqa: ANN401 - any type hint
    phrase = _description(hint)
    message = f"must be {phrase}" if phrase else _sentence(error)
    rules = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    codes = [meta.extra[REFUSAL] for meta in rules if isinstance(meta, Meta) and meta.extra and REFUSAL in meta.extra]
    return RefusedField(path, message, Refusal(codes[0])) if codes else FieldError(path, message)


def _converted(value: object, hint: Any) -> Any:  # noqa: ANN401 - any type hint
    """Convert. Instants become UTC, so that every answer, event and preview shows them alike."""
    if isinstance(value, str) and "\x00" in value:
        raise RefusedValueError(RefusalCode.nul)
    for meta in get_args(hint)[1:] if get_origin(hint) is Annotated else ():
        if isinstance(meta, Meta) and meta.extra and NORMALISE in meta.extra:
            value = meta.extra[NORMALISE](value)
    converted = msgspec.convert(value, hint)
    if isinstance(converted, datetime):
        try:
            return converted.astimezone(UTC)
        except OverflowError:
            raise ValueError("must lie between the years 1 and 9999 in UTC") from None
    return converted


def _without_none(hint: Any) -> Any:  # noqa: ANN401 - any type hint
    """Remove None and UNSET from the field's union."""
    options = get_args(hint) if get_origin(hint) in {Union, types.UnionType} else ()
    kept = [option for option in options if option not in {types.NoneType, msgspec.UnsetType}]
    return kept[0] if len(kept) == 1 else hint


def _struct_of(hint: Any) -> type[Struct] | None:  # noqa: ANN401 - any type hint
    kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return kind if isinstance(kind, type) and issubclass(kind, Struct) else None


def _split_list(hint: Any) -> tuple[Any, Any]:  # noqa: ANN401 - any type hint
    """For a list, return the rules of the whole and the hint of its items; else the hint and None."""
    kind, *rules = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    if get_origin(kind) is not list:
        return hint, None
    return Annotated[(list[Any], *rules)] if rules else list[Any], get_args(kind)[0]


def _sentence(error: msgspec.ValidationError) -> str:
    """Return the message without the value, which msgspec quotes for an unknown choice."""
    return str(error).partition(" '")[0].replace("`", "").lower()


def _description(hint: Any) -> str | None:  # noqa: ANN401 - any type hint
    """Return the first description, also from inside an optional field's union."""
    if get_origin(hint) is Annotated:
        return next((meta.description for meta in get_args(hint)[1:] if isinstance(meta, Meta)), None)
    found = (_description(option) for option in get_args(hint))
    return next((phrase for phrase in found if phrase), None)


def given_fields(data: Struct) -> Mapping[str, Any]:
    """Return the fields that a PATCH sets."""
    return {name: value for name, value in msgspec.structs.asdict(data).items() if value is not msgspec.UNSET}

"""The fields of a sent form."""

from collections.abc import Mapping
from enum import StrEnum
from functools import partial
from typing import TypeVar
from urllib.parse import parse_qsl

from litestar import post
from litestar.enums import RequestEncodingType
from litestar.exceptions.http_exceptions import RequestEntityTooLarge

from mailing.web.state import AnyRequest

post_form = partial(post, status_code=303)  # a form is answered by a redirect, or shown again with its errors
MAX_FORM_BYTES = 16 * 1024  # of a form, unless its route has another limit
MAX_FORM_FIELDS = 50

E = TypeVar("E", bound=StrEnum)


async def form(request: AnyRequest) -> Mapping[str, str]:
    """Return the fields of a form, stripped. If a name is sent twice, the last value counts."""
    return {name: value.strip() for name, value in await form_fields(request, max_fields=MAX_FORM_FIELDS)}


async def form_fields(request: AnyRequest, *, max_fields: int) -> list[tuple[str, str]]:
    """Return the fields of a form. Their number is checked before they are parsed.

    Litestar's own parser has no such limit, and caches the last 1,024 forms with the passwords in them.
    """
    kind, _ = request.content_type
    if kind != RequestEncodingType.URL_ENCODED:
        return []
    body = await request.body()
    try:
        text = body.decode("utf-8", "replace")
        return parse_qsl(text, keep_blank_values=True, errors="replace", max_num_fields=max_fields)
    except ValueError:
        raise RequestEntityTooLarge(f"A form may have up to {max_fields} fields.") from None


def option(kind: type[E], given: str) -> E | None:
    """Return one of the values to choose from; None for anything else, such as nothing chosen."""
    return kind(given) if given in set(kind) else None

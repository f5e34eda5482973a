"""The fields of a sent form."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from litestar import Request
from litestar.enums import RequestEncodingType
from litestar.exceptions.http_exceptions import RequestEntityTooLarge

FORM_BYTES = 16 * 1024  # of a form here, unless its route has another limit
FORM_FIELDS = 50


async def form(request: Request[Any, Any, Any]) -> Mapping[str, str]:
    """The fields of a sent form, without the blanks around them; of a name sent twice the last counts."""
    return {name: value.strip() for name, value in await form_fields(request, most=FORM_FIELDS)}


async def form_fields(request: Request[Any, Any, Any], *, most: int) -> list[tuple[str, str]]:
    """Counted before they are read.

    Litestar's own reader counts none, and remembers the last 1,024 forms, with the passwords in them.
    """
    kind, _ = request.content_type
    if kind != RequestEncodingType.URL_ENCODED:
        return []
    body = await request.body()
    try:
        return parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, errors="replace", max_num_fields=most)
    except ValueError:
        raise RequestEntityTooLarge(f"A form here has up to {most} fields.") from None

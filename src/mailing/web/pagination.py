"""Pages by keyset, and their cursors."""

import base64
from collections.abc import Sequence
from typing import Annotated, Generic, TypeVar

from litestar.params import QueryParameter
from msgspec import Struct

T = TypeVar("T")
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


def page(rows: Sequence[T], limit: int, key: str = "id") -> Page[T]:
    """Build a page from up to `limit` + 1 rows; the extra one shows that there is a next page."""
    items = list(rows[:limit])
    return Page(items, encode_cursor(getattr(items[-1], key)) if len(rows) > limit else None)


def encode_cursor(value: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes(8, "big")).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> int:
    """Return the id after which the page begins; 0 without a cursor. `Cursor` has validated the text."""
    return int.from_bytes(base64.urlsafe_b64decode(f"{cursor}="), "big") if cursor else 0

"""`/mailing/api/events`: the history of a mailing, a message or a client."""

import base64
import struct
from typing import Annotated

from litestar import get
from litestar.params import QueryParameter

from mailing.errors import FieldError, Invalid
from mailing.events.history import HistoryCursor, HistoryEntry, Subject, history
from mailing.web.pagination import Limit, Page
from mailing.web.parameters import MAX_ID, OptionalId, Session

_LAYOUT = ">QBQI"  # microseconds since 1970, rank, id, number
_LENGTH = 28

EventCursor = Annotated[
    str | None,
    QueryParameter(
        pattern="^[A-Za-z0-9_-]+$",  # no length: min_length and max_length say it
        min_length=_LENGTH,
        max_length=_LENGTH,
        description="the next_cursor of the page before",
    ),
]


@get("/events/", summary="Everything that happened to a mailing, a message or a client", tags=["events"])
async def list_events(
    session: Session,
    mailing_id: OptionalId = None,
    message_id: OptionalId = None,
    client_id: OptionalId = None,
    limit: Limit = 50,
    cursor: EventCursor = None,
) -> Page[HistoryEntry]:
    """Pass exactly one id. The oldest entry comes first: changes and their actors, plans, every call to the gateway
    with its answer, the outcome. The history of a message includes the events of its mailing and its client. Deleted
    objects keep their history; an unknown id has none.
    """
    subject, id_ = _only_one({"mailing_id": mailing_id, "message_id": message_id, "client_id": client_id})
    found = await history(session, subject, id_, after=_decode_cursor(cursor), limit=limit)
    next_cursor = _encode_cursor(found[limit - 1][0]) if len(found) > limit else None
    return Page([happened for _, happened in found[:limit]], next_cursor)


def _only_one(ids: dict[Subject, int | None]) -> tuple[Subject, int]:
    given = [(name, id_) for name, id_ in ids.items() if id_ is not None]
    if not given:
        raise Invalid(FieldError("mailing_id", "is required, or message_id, or client_id"))
    if len(given) > 1:
        raise Invalid(*(FieldError(name, "is one of several ids; send exactly one") for name, _ in given))
    return given[0]


def _encode_cursor(place: HistoryCursor) -> str:
    packed = struct.pack(_LAYOUT, place.micros, place.rank, place.id, place.number)
    return base64.urlsafe_b64encode(packed).decode()


def _decode_cursor(cursor: str | None) -> HistoryCursor:
    """Decode any well-formed cursor. Values beyond the last entry are clamped: nothing follows them."""
    if cursor is None:
        return HistoryCursor()
    micros, rank, id_, number = struct.unpack(_LAYOUT, base64.urlsafe_b64decode(cursor))
    return HistoryCursor.of(min(micros, _MAX_MICROS), min(rank, _MAX_RANK), min(id_, MAX_ID), min(number, _MAX_NUMBER))


_MAX_RANK = 3
_MAX_NUMBER = 2**31 - 1
_MAX_MICROS = 10**15 * 4  # microseconds: the year 2096

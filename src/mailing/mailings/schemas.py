"""Mailings in requests and answers of the API."""

import unicodedata
from collections.abc import Iterator, Mapping
from datetime import datetime, time
from typing import Annotated, Any, Self

from msgspec import UNSET, Meta, Struct, UnsetType, field

from mailing.clients.schemas import Phone, Tag
from mailing.clients.tag import PATTERN as TAG_PATTERN
from mailing.clients.tag import VISIBLE
from mailing.errors import FieldError
from mailing.mailings.models import Mailing
from mailing.mailings.states import MailingStatus
from mailing.web.validation import NORMALISE

MAX_TEXT_LENGTH = 1600  # characters; about ten segments of an SMS


def composed(text: object) -> object:
    """Compose accents (NFC): `é` as two characters would send the whole text in UCS-2, 70 characters a segment."""
    return unicodedata.normalize("NFC", text) if isinstance(text, str) else text


Text = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_TEXT_LENGTH,
        pattern=VISIBLE,
        description=f"1 to {MAX_TEXT_LENGTH} characters, at least one of them visible",
        examples=["Autumn sale: 20 % off until Sunday"],
        extra={NORMALISE: composed},
    ),
]


def _instant(shown: str, *, example: str) -> Meta:
    description = f"an instant in RFC 3339 with its offset, such as {shown}"
    return Meta(tz=True, description=description, examples=[example])


Instant = Annotated[datetime, _instant("2026-12-01T09:00:00Z", example="2026-01-01T00:00:00Z")]
EndInstant = Annotated[datetime, _instant("2030-12-01T18:00:00Z", example="2030-12-31T18:00:00Z")]


def _items(**rules: str | int) -> dict[str, Any]:
    """Return the rules of a list's items, which Litestar leaves out of the API documentation."""
    return {"extra": {"items": {"type": "string", **rules}}}


Tags = Annotated[
    list[Tag],
    Meta(
        max_length=100,
        description="up to 100 tags; empty matches every client",
        examples=[["vip"]],
        extra_json_schema=_items(minLength=1, maxLength=100, pattern=TAG_PATTERN),
    ),
]
# `$` alone lets a line break follow, and JavaScript, whose patterns OpenAPI takes, has no `\Z`: hence the lengths.
OperatorCodes = Annotated[
    list[Annotated[str, Meta(pattern="^[0-9]{3}$", max_length=3, description="three digits, such as 916")]],
    Meta(
        max_length=100,
        description="up to 100 operator codes; empty matches every client",
        examples=[["916"]],
        extra_json_schema=_items(pattern="^[0-9]{3}$", maxLength=3),
    ),
]
_WALL_TIME = Meta(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$", max_length=5, description="a time of day such as 09:00")
WindowStart = Annotated[str, _WALL_TIME, Meta(examples=["09:00"])]
WindowEnd = Annotated[str, _WALL_TIME, Meta(examples=["21:00"])]


class Filter(Struct, frozen=True):
    """A client matches if its tag is one of `tags`, or `tags` is empty; the same for `operator_codes`."""

    tags: Tags = []
    operator_codes: OperatorCodes = []


class LocalWindowIn(Struct):
    """Send only within [start, end) of each client's local time; over midnight when `end` is earlier than `start`."""

    start: WindowStart
    end: WindowEnd

    @staticmethod
    def contradictions(fields: Mapping[str, Any]) -> Iterator[FieldError]:
        if "start" in fields and fields["start"] == fields.get("end"):
            yield FieldError("end", "must differ from start; leave local_window out to send at any hour")


def _impossible_times(fields: Mapping[str, Any]) -> Iterator[FieldError]:
    """Check the times. Years are bounded so that every instant has a local time in every zone."""
    times = {name: fields[name] for name in ("starts_at", "ends_at") if name in fields}
    far = [name for name, instant in times.items() if not 2000 <= instant.year < 2100]
    yield from (FieldError(name, "must lie in the years 2000 to 2099") for name in far)
    if len(times) == 2 and not far and times["ends_at"] <= times["starts_at"]:
        yield FieldError("ends_at", "must be after starts_at")


class MailingIn(Struct):
    """A whole mailing: the body of POST and PUT."""

    text: Text
    starts_at: Instant
    ends_at: EndInstant
    filter: Filter = field(default_factory=Filter)
    local_window: LocalWindowIn | None = None

    contradictions = staticmethod(_impossible_times)


class MailingPatch(Struct):
    """The fields to change; `filter` and `local_window` are replaced as a whole."""

    text: Text | UnsetType = UNSET
    starts_at: Instant | UnsetType = UNSET
    ends_at: EndInstant | UnsetType = UNSET
    filter: Filter | UnsetType = UNSET
    local_window: LocalWindowIn | UnsetType | None = UNSET

    contradictions = staticmethod(_impossible_times)


class LocalWindowOut(Struct):
    start: str
    end: str


class Release(Struct):
    """The last release: who released which `revision` of the mailing, and when. In a draft an older revision."""

    revision: int
    at: datetime
    by: str


class MailingOut(Struct):
    """A mailing. `revision` grows with each change of text, times, hours or filter; a release covers one revision."""

    id: int
    text: str
    starts_at: datetime
    ends_at: datetime
    filter: Filter
    local_window: LocalWindowOut | None
    status: MailingStatus
    created_at: datetime
    updated_at: datetime
    revision: int
    release: Release | None

    @classmethod
    def of(cls, mailing: Mailing, **counts: int) -> Self:
        """Convert a row; `counts` are the fields that a subclass adds."""
        window = mailing.window
        return cls(
            id=mailing.id,
            text=mailing.text,
            starts_at=mailing.starts_at,
            ends_at=mailing.ends_at,
            filter=Filter(mailing.tags, mailing.operator_codes),
            local_window=LocalWindowOut(f"{window.start:%H:%M}", f"{window.end:%H:%M}") if window else None,
            status=mailing.status,
            created_at=mailing.created_at,
            updated_at=mailing.updated_at,
            revision=mailing.content_revision,
            release=_release(mailing),
            **counts,
        )


def _release(mailing: Mailing) -> Release | None:
    if mailing.released_revision is None or mailing.released_at is None or mailing.released_by is None:
        return None
    return Release(mailing.released_revision, mailing.released_at, mailing.released_by)


class StoppedMailing(MailingOut):
    """A paused or cancelled mailing; `stopped` counts the messages that were pending at that moment."""

    stopped: int


class ResentMailing(MailingOut):
    """A mailing with failed messages sent again; `resent` counts the messages that are pending again."""

    resent: int


class ResolvedMailing(MailingOut):
    """A mailing with resolved messages; `resolved` counts the messages that are no longer unknown."""

    resolved: int


class TestIn(Struct):
    """The recipient of the test: a client's phone."""

    phone: Phone


def columns(data: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the given fields of a MailingIn or MailingPatch to columns of `mailing`."""
    row = {name: data[name] for name in ("text", "starts_at", "ends_at") if name in data}
    if "filter" in data:
        row |= {"tags": data["filter"].tags, "operator_codes": data["filter"].operator_codes}
    if "local_window" in data:
        window = data["local_window"]
        row["window_start"] = time.fromisoformat(window.start) if window else None
        row["window_end"] = time.fromisoformat(window.end) if window else None
    return row

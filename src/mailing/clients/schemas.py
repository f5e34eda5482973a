"""Clients in requests and answers of the API. Each description completes "must be" when a field is rejected."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from mailing.clients import phone, tag, timezone
from mailing.errors import FieldError
from mailing.reasons import refusals
from mailing.reasons.refusals import RefusalCode, RefusedField
from mailing.timezones import known_zone
from mailing.web.validation import NORMALISE, REFUSAL

# The lengths reject what a pattern's `$` accepts: a line break at the end.
Phone = Annotated[
    str,
    Meta(
        pattern=phone.PATTERN,
        min_length=phone.LENGTH,
        max_length=phone.LENGTH,
        description=refusals.PHONE_RULE,
        examples=["79161234567"],
        extra={NORMALISE: phone.normalised_phone, REFUSAL: RefusalCode.phone},
    ),
]
OperatorCode = Annotated[
    str,
    Meta(
        pattern=phone.OPERATOR_CODE_PATTERN,
        min_length=phone.OPERATOR_CODE_LENGTH,
        max_length=phone.OPERATOR_CODE_LENGTH,
        description=refusals.OPERATOR_CODE_RULE,
        examples=["916"],
        extra={REFUSAL: RefusalCode.operator_code},
    ),
]
Tag = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=refusals.MAX_TAG_LENGTH,
        description=refusals.TAG_RULE,
        examples=["vip"],
        extra={NORMALISE: tag.normalised_tag, REFUSAL: RefusalCode.tag},
        extra_json_schema={"extra": {"pattern": tag.PATTERN}},
    ),
]
TimeZone = Annotated[
    str,
    Meta(
        max_length=100,
        description=refusals.TIMEZONE_RULE,
        examples=["Europe/Moscow"],
        extra={REFUSAL: RefusalCode.timezone},
    ),
]
OptedOut = Annotated[
    bool, Meta(description="true or false; true cancels what is unsent to this client", examples=[False])
]


def _contradictions(fields: Mapping[str, Any]) -> Iterator[FieldError]:
    if (zone := fields.get("timezone")) is not None and not known_zone(zone):
        refusal = timezone.suggestion(zone)
        yield RefusedField("timezone", refusal.words(), refusal)


class ClientIn(Struct, kw_only=True):
    """A whole client. A PUT resets what it leaves out, except `opted_out`: an opt-out is never lost by omission."""

    phone: Phone
    operator_code: OperatorCode | None = None
    tag: Tag | None = None
    timezone: TimeZone
    opted_out: OptedOut | UnsetType = UNSET

    contradictions = staticmethod(_contradictions)


class ClientPatch(Struct, kw_only=True):
    """The fields to change; null removes the tag, and takes the operator code from the phone again."""

    phone: Phone | UnsetType = UNSET
    operator_code: OperatorCode | UnsetType | None = UNSET
    tag: Tag | UnsetType | None = UNSET
    timezone: TimeZone | UnsetType = UNSET
    opted_out: OptedOut | UnsetType = UNSET

    contradictions = staticmethod(_contradictions)


class ClientOut(Struct):
    id: int
    phone: str
    operator_code: str
    tag: str | None
    timezone: str
    opted_out: bool
    created_at: datetime
    updated_at: datetime


class RowError(Struct, frozen=True):
    """An invalid field. `line` is where its row begins; `field` is a column, or `row` if its cells are malformed."""

    line: int
    field: str
    message: str


class ImportCounts(Struct, kw_only=True):
    created: int
    updated: int
    normalised: int
    opted_out: int
    rejected: int


class ImportResult(ImportCounts, kw_only=True):
    """The result of an import. `created + updated + rejected` is the number of rows; an unchanged row is `updated`.

    `normalised` counts the rows, created or updated, whose phone or tag was rewritten into its one form. `opted_out`
    counts the phones that the file opted out, and the new clients whose phone had opted out before.
    """

    errors: list[RowError]

"""`/mailing/api/mailings/preview`: what a mailing would do, before anything is stored."""

import asyncio
from collections import Counter
from datetime import datetime
from typing import Annotated, Literal

from litestar import post
from litestar.params import JSONBody, QueryParameter
from msgspec import Meta, Struct
from msgspec.structs import asdict
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.gateway.repository import Pace, read_pace
from mailing.mailings.audience import Exclusion, Reach, reach, reach_of_edit
from mailing.mailings.editing import PLAN_COLUMNS, changes_of, refuse_passed_end
from mailing.mailings.forecast import Forecast, Term, forecast
from mailing.mailings.repository import MailingRepository, database_now
from mailing.mailings.schemas import MailingIn, columns
from mailing.mailings.sms_segments import Segments, segments_of
from mailing.mailings.states import AHEAD
from mailing.mailings.window import LocalWindow
from mailing.messages.planning import Audience
from mailing.web.parameters import MAX_ID, Body, Session, documented

Edited = Annotated[
    int | None,
    QueryParameter(ge=1, le=MAX_ID, description="an id, 1 or greater, of the mailing that the body would replace"),
]


class Excluded(Struct):
    """Clients that get nothing, each under the first reason that holds. `untouched`: only when a mailing is edited,
    those whose message has gone out or is decided, and those who joined too late for an edit of the text alone.
    """

    tag: int
    operator_code: int
    opted_out: int
    untouched: int


class Rate(Struct):
    """Messages per second. `limit`: as the rate limit allows; `measured`: without one, what the last 30 s held."""

    per_second: float
    source: Literal["limit", "measured"]


class Missed(Struct):
    """Recipients that the end comes before: their local hours do not begin earlier, or the rate does not reach them."""

    no_opening: int
    too_late: int


class ZoneStart(Struct):
    """When a zone's recipients can first be sent to; null with the `reason` where they never can."""

    timezone: str
    recipients: int
    opens_at: datetime | None
    reason: str | None


class ZoneHour(Struct):
    timezone: str
    messages: int


class Hour(Struct):
    """What leaves in the hour from `at` on. Without a rate: what becomes due in it."""

    at: datetime
    messages: int
    zones: list[ZoneHour]


class Preview(Struct):
    """`stopped`: messages that an edit cancels, because their client is no recipient any more. `done_at` is null where
    no rate is known, and where some are missed or `later`: not sent in the 7 days that `hours` looks ahead.
    """

    recipients: int
    excluded: Excluded
    stopped: int
    sms: Segments
    sms_total: Annotated[int, Meta(description="segments of all recipients together")]
    rate: Rate | None
    begins_at: datetime
    done_at: datetime | None
    missed: Missed
    later: int
    zones: list[ZoneStart]
    hours: list[Hour]


@post(
    "/mailings/preview",
    dto=Body[MailingIn],
    return_dto=None,
    summary="See what a mailing would do",
    operation_id="preview_mailing",
    status_code=200,
    responses=documented(400, 404, 409, 413),
    tags=["mailings"],
)
async def preview_mailing(session: Session, data: JSONBody[MailingIn], mailing_id: Edited = None) -> Preview:
    """Takes the body of a new mailing and stores nothing. Says who would get it and who not, when, in which local
    hours, in how many SMS, and how many the end would come before: at the rate of this moment, with no other mailing
    beside it. With `mailing_id`: what replacing that mailing would mean for what it has not sent.
    """
    return await preview(session, data, mailing_id=mailing_id)


async def preview(session: AsyncSession, data: MailingIn, *, mailing_id: int | None) -> Preview:
    now = await database_now(session)
    found = await _reach(session, data, mailing_id=mailing_id, now=now)
    pace = await read_pace(session)
    row = columns(asdict(data))
    window = LocalWindow(row["window_start"], row["window_end"]) if row["window_start"] else None
    term = Term(max(data.starts_at, now), data.ends_at, window)
    foreseen = await asyncio.to_thread(forecast, found.zones, term, per_second=pace.per_second if pace else None)
    return _told(found, segments_of(data.text), pace=pace, term=term, foreseen=foreseen)


async def _reach(session: AsyncSession, data: MailingIn, *, mailing_id: int | None, now: datetime) -> Reach:
    everyone = Audience(data.filter.tags, data.filter.operator_codes, MAX_ID)
    if mailing_id is None:
        refuse_passed_end(data.ends_at, now)
        return await reach(session, everyone)
    mailing = await MailingRepository(session=session).existing(mailing_id)
    changes = changes_of(mailing, asdict(data), now=now)
    if mailing.status in AHEAD:
        return await reach(session, everyone)
    replans = bool(changes.keys() & PLAN_COLUMNS) or mailing.planned_revision < mailing.plan_revision
    return await reach_of_edit(session, everyone, mailing_id=mailing_id, replans=replans)


def _told(found: Reach, sms: Segments, *, pace: Pace | None, term: Term, foreseen: Forecast) -> Preview:
    recipients = sum(found.zones.values())
    return Preview(
        recipients=recipients,
        excluded=_excluded(found.excluded),
        stopped=found.stopped,
        sms=sms,
        sms_total=sms.segments * recipients,
        rate=Rate(pace.per_second, pace.source) if pace else None,
        begins_at=term.begin,
        done_at=foreseen.done_at,
        missed=Missed(foreseen.no_opening, foreseen.too_late),
        later=foreseen.later,
        zones=[ZoneStart(each.timezone, each.messages, each.opens_at, each.reason) for each in foreseen.starts],
        hours=[_hour(at, zones) for at, zones in foreseen.hours.items()],
    )


def _excluded(counts: Counter[Exclusion]) -> Excluded:
    return Excluded(counts["tag"], counts["operator_code"], counts["opted_out"], counts["untouched"])


def _hour(at: datetime, zones: dict[str, int]) -> Hour:
    return Hour(at, sum(zones.values()), [ZoneHour(*each) for each in zones.items()])

"""Preview what a mailing would do, before anything is stored."""

import asyncio
from datetime import datetime
from typing import Annotated, get_args

from msgspec import Meta, Struct
from msgspec.structs import asdict
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.clock import database_now
from mailing.gateway.repository import Rate, read_rate
from mailing.mailings.audience import Exclusion, Reach, reach, reach_of_edit
from mailing.mailings.editing import changes_of, ensure_future_end
from mailing.mailings.forecast import Forecast, Period, forecast
from mailing.mailings.orm_repository import MailingRepository
from mailing.mailings.schemas import MailingIn, columns
from mailing.mailings.sms_segments import Segments, segments_of
from mailing.mailings.states import NOT_STARTED
from mailing.mailings.window import LocalWindow
from mailing.messages.planning import Audience
from mailing.reasons.codes import words_of
from mailing.web.parameters import MAX_ID


class Excluded(Struct):
    """Clients that get nothing, each under the first reason that applies.

    `unaffected`: only for an edit, clients whose message was sent or has ended, and clients added too late for an edit
    of the text alone.
    """

    tag: int
    operator_code: int
    opted_out: int
    unaffected: int


class Missed(Struct):
    """Recipients that the end cuts off: their local hours begin later, or the rate does not reach them in time."""

    no_window: int
    too_late: int


class ZoneStart(Struct):
    """When a zone's recipients can first be sent to; null with a `reason` if they never can."""

    timezone: str
    recipients: int
    opens_at: datetime | None
    reason: str | None


class ZoneHour(Struct):
    timezone: str
    messages: int


class Hour(Struct):
    """Messages sent in the hour from `at` on. Without a rate: messages that become due in it."""

    at: datetime
    messages: int
    zones: list[ZoneHour]


class Preview(Struct):
    """What a mailing would do.

    `stopped`: messages that an edit cancels, because their client is no longer a recipient. `after_horizon`: messages
    not sent within the 7 days of `hours`. `done_at` is null without a rate, and if some messages are missed or after
    the horizon.
    """

    recipients: int
    excluded: Excluded
    stopped: int
    sms: Segments
    sms_total: Annotated[int, Meta(description="segments for all recipients together")]
    rate: Rate | None
    begins_at: datetime
    done_at: datetime | None
    missed: Missed
    after_horizon: int
    zones: list[ZoneStart]
    hours: list[Hour]


async def preview(session: AsyncSession, data: MailingIn, *, mailing_id: int | None) -> Preview:
    now = await database_now(session)
    found = await _reach(session, data, mailing_id=mailing_id, now=now)
    rate = await read_rate(session)
    row = columns(asdict(data))
    window = LocalWindow(row["window_start"], row["window_end"]) if row["window_start"] else None
    period = Period(max(data.starts_at, now), data.ends_at, window)
    expected = await asyncio.to_thread(forecast, found.zones, period, per_second=rate.per_second if rate else None)
    return _preview(found, segments_of(data.text), rate=rate, period=period, expected=expected)


async def _reach(session: AsyncSession, data: MailingIn, *, mailing_id: int | None, now: datetime) -> Reach:
    everyone = Audience(data.filter.tags, data.filter.operator_codes, MAX_ID)
    if mailing_id is None:
        ensure_future_end(data.ends_at, now)
        return await reach(session, everyone)
    mailing = await MailingRepository(session=session).get_visible(mailing_id)
    changes = changes_of(mailing, asdict(data), now=now)
    if mailing.status in NOT_STARTED:
        return await reach(session, everyone)
    replans = bool(changes) or mailing.planned_revision < mailing.plan_revision
    return await reach_of_edit(session, everyone, mailing_id=mailing_id, replans=replans)


def _preview(found: Reach, sms: Segments, *, rate: Rate | None, period: Period, expected: Forecast) -> Preview:
    recipients = sum(found.zones.values())
    return Preview(
        recipients=recipients,
        excluded=Excluded(**{reason: found.excluded[reason] for reason in get_args(Exclusion)}),
        stopped=found.stopped,
        sms=sms,
        sms_total=sms.segments * recipients,
        rate=rate,
        begins_at=period.begin,
        done_at=expected.done_at,
        missed=Missed(expected.no_window, expected.too_late),
        after_horizon=expected.after_horizon,
        zones=[
            ZoneStart(each.timezone, each.messages, each.opens_at, words_of(each.reason) or None)
            for each in expected.starts
        ],
        hours=[
            Hour(at, sum(zones.values()), [ZoneHour(*each) for each in zones.items()])
            for at, zones in expected.hours.items()
        ],
    )

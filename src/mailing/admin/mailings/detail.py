"""`/admin/mailings/{id}`: one mailing and its progress."""

from datetime import datetime
from functools import partial

from litestar import Response, get
from msgspec import Struct, field

from mailing.admin import polling
from mailing.admin.charts import columns, segments
from mailing.admin.guards import POLLING_VIEWER, VIEWER
from mailing.admin.polling import Renderings
from mailing.admin.single_flight import single_flight
from mailing.database.engine import Sessions, transaction
from mailing.events.history import EventSummary, latest_events
from mailing.mailings.orm_repository import MailingRepository
from mailing.mailings.schemas import MailingOut
from mailing.mailings.states import OPEN
from mailing.receipts import RECEIPTS_TIME
from mailing.statistics.progress import Progress, progress_of
from mailing.statistics.repository import UndeliveredReason, undelivered_reasons
from mailing.statistics.throughput import Timeseries, timeseries
from mailing.timezones import zone_named
from mailing.web.parameters import Id
from mailing.web.state import AnyRequest, state_of

INTERVAL_S = 2
CACHE_S = 1.5
MAX_EVENTS = 50
BAR = ("sent", "sending", "pending", "unknown", "failed", "expired", "cancelled")
DELIVERY = ("delivered", "awaited", "undelivered")  # in the place of sent, if the provider sends receipts
RECEIPTS_INTERVAL_S = 10


class PageData(Struct, frozen=True):
    mailing: MailingOut
    progress: Progress
    timeseries: Timeseries | None
    events: list[EventSummary]
    reasons: list[UndeliveredReason]
    renderings: Renderings = field(default_factory=dict)


@get("/mailings/{mailing_id:int}", guards=VIEWER)
async def mailing_page(request: AnyRequest, mailing_id: Id) -> Response[str]:
    data = await _page_data(request, mailing_id)
    return polling.full_page(request, "mailings/detail.html", _progress(data), events=data.events)


@get("/mailings/{mailing_id:int}/live", guards=POLLING_VIEWER)
async def mailing_fragment(request: AnyRequest, mailing_id: Id) -> Response[str]:
    return polling.fragment(request, _progress(await _page_data(request, mailing_id)))


async def _page_data(request: AnyRequest, mailing_id: int) -> PageData:
    receipts = state_of(request).receipts_expected
    reader = partial(read_page_data, state_of(request).sessions, mailing_id, receipts=receipts)
    return await single_flight(request).read(("mailing", mailing_id), reader, cache_s=CACHE_S)


async def read_page_data(sessions: Sessions, mailing_id: int, *, receipts: bool = False) -> PageData:
    async with transaction(sessions) as session:
        mailing = await MailingRepository(session=session).get_visible(mailing_id)
        return PageData(
            MailingOut.of(mailing),
            await progress_of(session, mailing, receipts=receipts),
            await timeseries(session, mailing_id),
            (await latest_events(session, "mailing_id", mailing_id, count=MAX_EVENTS))[::-1],
            await undelivered_reasons(session, mailing_id) if receipts else [],
        )


def _interval_s(data: PageData) -> float | None:
    """Return the polling interval; None for a closed mailing without calls in progress and without awaited receipts.

    Receipts that have not come within RECEIPTS_TIME are not awaited.
    """
    if data.mailing.status in OPEN or data.progress.left:
        return INTERVAL_S
    delivery = data.progress.counts.delivery
    return RECEIPTS_INTERVAL_S if delivery and delivery.awaited and not _receipts_over(data) else None


def _receipts_over(data: PageData) -> bool:
    return data.progress.gateway.now > data.mailing.ends_at + RECEIPTS_TIME


def _progress(data: PageData) -> polling.Part:
    counts = data.progress.counts
    parts = {name: getattr(counts, name) for name in BAR}
    if counts.delivery:
        del parts["sent"]
        parts = {name: getattr(counts.delivery, name) for name in DELIVERY} | parts
    values = {
        "local_time": local_time,
        "mailing": data.mailing,
        "progress": data.progress,
        "bar": segments(parts),
        "delivery": counts.delivery,
        "receipts_over": _receipts_over(data),
        "reasons": data.reasons,
        "timeseries": data.timeseries,
        "columns": columns([step.messages for step in data.timeseries.steps]) if data.timeseries else None,
    }
    return polling.Part("mailings/progress.html", values, data.renderings, _interval_s(data))


def local_time(instant: datetime, zone: str) -> str:
    return f"{instant.astimezone(zone_named(zone)):%H:%M}"

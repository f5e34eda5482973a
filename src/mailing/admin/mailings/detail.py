"""`/admin/mailings/{id}`: one mailing and its progress."""

from datetime import datetime
from functools import partial

from litestar import Response, get

from mailing.admin import polling
from mailing.admin.charts import columns, segments
from mailing.admin.guards import VIEWER
from mailing.database.engine import Sessions, transaction
from mailing.events.history import latest_events
from mailing.mailings.orm_repository import MailingRepository
from mailing.mailings.schemas import MailingOut
from mailing.mailings.states import OPEN
from mailing.receipts import RECEIPTS_TIME
from mailing.statistics.progress import progress_of
from mailing.statistics.repository import undelivered_reasons
from mailing.statistics.schemas import MailingLine
from mailing.statistics.throughput import timeseries
from mailing.timezones import zone_named
from mailing.web.parameters import Id
from mailing.web.state import AnyRequest, state_of

INTERVAL_S = 2
MAX_EVENTS = 50
BAR = ("sent", "sending", "pending", "unknown", "failed", "expired", "cancelled")
DELIVERY = ("delivered", "awaited", "undelivered")  # in the place of sent, if the provider sends receipts
RECEIPTS_INTERVAL_S = 10


@get(["/mailings/{mailing_id:int}", "/mailings/{mailing_id:int}/live"], guards=VIEWER)
async def mailing_page(request: AnyRequest, mailing_id: Id) -> Response[str]:
    reader = partial(_read_progress, mailing_id, receipts=state_of(request).receipts_expected)
    progress = await polling.shared(request, ("mailing", mailing_id), reader)
    return polling.answer(request, "mailings/detail.html", progress)


async def _read_progress(mailing_id: int, sessions: Sessions, *, receipts: bool) -> polling.Part:
    async with transaction(sessions) as session:
        found = await MailingRepository(session=session).get_visible(mailing_id)
        mailing, progress = MailingOut.of(found), await progress_of(session, found, receipts=receipts)
        course = await timeseries(session, mailing_id)
        events = await latest_events(session, "mailing_id", mailing_id, count=MAX_EVENTS)
        reasons = await undelivered_reasons(session, mailing_id) if receipts else []
    delivery = progress.counts.delivery
    receipts_over = progress.gateway.now > mailing.ends_at + RECEIPTS_TIME
    awaits_receipts = delivery and delivery.awaited and not receipts_over
    values = {
        "local_time": local_time,
        "mailing": mailing,
        "progress": progress,
        "bar": segments(_bar(progress.counts)),
        "delivery": delivery,
        "receipts_over": receipts_over,
        "reasons": reasons,
        "timeseries": course,
        "columns": columns([step.messages for step in course.steps]) if course else None,
        "events": events[::-1],
    }
    is_going_on = mailing.status in OPEN or progress.left
    interval_s = INTERVAL_S if is_going_on else RECEIPTS_INTERVAL_S if awaits_receipts else None
    return polling.Part("mailings/progress.html", values, interval_s)


def _bar(counts: MailingLine) -> dict[str, int]:
    parts = {name: getattr(counts, name) for name in BAR}
    if counts.delivery:
        del parts["sent"]
        parts = {name: getattr(counts.delivery, name) for name in DELIVERY} | parts
    return parts


def local_time(instant: datetime, zone: str) -> str:
    return f"{instant.astimezone(zone_named(zone)):%H:%M}"

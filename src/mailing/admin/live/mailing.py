"""`/admin/mailings/{id}`: one mailing, as it goes."""

from datetime import datetime
from functools import partial
from typing import Any

from litestar import Request, Response, get
from msgspec import Struct, field

from mailing.access.roles import Role
from mailing.admin.guards import follows, needs
from mailing.admin.live import part
from mailing.admin.live.charts import columns, segments
from mailing.admin.live.part import Renderings
from mailing.admin.live.shared import shared
from mailing.database.engine import Sessions, transaction
from mailing.events.history import Noted, newest
from mailing.mailings.repository import MailingRepository
from mailing.mailings.schemas import MailingOut
from mailing.mailings.states import OPEN
from mailing.statistics.progress import Progress, progress_of
from mailing.statistics.throughput import Timeseries, timeseries
from mailing.timezones import zone_named
from mailing.web.parameters import Id

EVERY_S = 2
READ_FOR_S = 1.5
ACTS = 50
BAR = ("sent", "sending", "pending", "unknown", "failed", "expired", "cancelled")


class Look(Struct, frozen=True):
    mailing: MailingOut
    progress: Progress
    timeseries: Timeseries | None
    acts: list[Noted]
    kept: Renderings = field(default_factory=dict)


@get("/mailings/{mailing_id:int}", guards=[needs(Role.VIEWER)])
async def mailing_page(request: Request[Any, Any, Any], mailing_id: Id) -> Response[str]:
    look = await _look(request, mailing_id)
    values = _shown(look)
    return part.whole(
        request,
        "live/mailing.html",
        "live/progress.html",
        every_s=_every_s(look),
        kept=look.kept,
        acts=look.acts,
        **values,
    )


@get("/mailings/{mailing_id:int}/live", guards=[follows(Role.VIEWER)])
async def mailing_live(request: Request[Any, Any, Any], mailing_id: Id) -> Response[str]:
    look = await _look(request, mailing_id)
    return part.again(request, "live/progress.html", every_s=_every_s(look), kept=look.kept, **_shown(look))


async def _look(request: Request[Any, Any, Any], mailing_id: int) -> Look:
    reader = partial(read_look, request.app.state.sessions, mailing_id)
    return await shared(request).read(("mailing", mailing_id), reader, for_s=READ_FOR_S)


async def read_look(sessions: Sessions, mailing_id: int) -> Look:
    async with transaction(sessions) as session:
        mailing = await MailingRepository(session=session).get_visible(mailing_id)
        return Look(
            MailingOut.of(mailing),
            await progress_of(session, mailing),
            await timeseries(session, mailing_id),
            (await newest(session, "mailing_id", mailing_id, count=ACTS))[::-1],
        )


def _every_s(look: Look) -> float | None:
    """A closed mailing's page is still until a person acts, but for messages whose calls are coming back."""
    return EVERY_S if look.mailing.status in OPEN or look.progress.left else None


def _shown(look: Look) -> dict[str, object]:
    counts = look.progress.counts
    return {
        "wall": wall,
        "mailing": look.mailing,
        "progress": look.progress,
        "bar": segments({name: getattr(counts, name) for name in BAR}),
        "timeseries": look.timeseries,
        "columns": columns([step.messages for step in look.timeseries.steps]) if look.timeseries else None,
    }


def wall(instant: datetime, zone: str) -> str:
    """The time of day there."""
    return f"{instant.astimezone(zone_named(zone)):%H:%M}"

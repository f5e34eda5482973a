"""`/admin/statistics`: all mailings together, and one by one."""

from functools import partial
from typing import Any

from litestar import Request, Response, get
from msgspec import Struct

from mailing.access.roles import Role
from mailing.admin.guards import needs
from mailing.admin.live.charts import columns, segments
from mailing.admin.live.mailing import BAR
from mailing.admin.live.shared import shared
from mailing.admin.pages import page
from mailing.database.engine import Sessions, transaction
from mailing.mailings.repository import database_now
from mailing.statistics.mailing_list import newest_mailings
from mailing.statistics.repository import totals
from mailing.statistics.schemas import Counts
from mailing.statistics.throughput import MinuteCount, last_hours
from mailing.web.pagination import Cursor, decode_cursor, encode_cursor
from mailing.web.parameters import MAX_ID, Session

ON_A_PAGE = 20
HOURS = 24
READ_FOR_S = 5


class Whole(Struct, frozen=True):
    counts: Counts
    mailings: int
    hours: list[MinuteCount]


@get("/statistics", guards=[needs(Role.VIEWER)])
async def statistics_page(request: Request[Any, Any, Any], session: Session, cursor: Cursor = None) -> Response[str]:
    reader = partial(read_whole, request.app.state.sessions)
    whole = await shared(request).read("statistics", reader, for_s=READ_FOR_S)
    lines = await newest_mailings(session, before=decode_cursor(cursor) or MAX_ID, limit=ON_A_PAGE)
    more = len(lines) > ON_A_PAGE
    return page(
        request,
        "live/statistics.html",
        counts=whole.counts,
        mailings=whole.mailings,
        bar=bar_of(whole.counts),
        hours=whole.hours,
        columns=columns([hour.messages for hour in whole.hours]),
        lines=[(line, bar_of(line.counts)) for line in lines[:ON_A_PAGE]],
        next_page=f"/admin/statistics?cursor={encode_cursor(lines[ON_A_PAGE - 1].id)}" if more else "",
        first_page="/admin/statistics" if cursor else "",
    )


async def read_whole(sessions: Sessions) -> Whole:
    async with transaction(sessions) as session:
        counts, mailings = await totals(session)
        return Whole(counts, mailings, await last_hours(session, HOURS, now=await database_now(session)))


def bar_of(counts: Counts) -> list[Any]:
    return list(segments({name: getattr(counts, name) for name in BAR}))

"""`/admin/statistics`: all mailings together, and one by one."""

from functools import partial
from typing import Any

from litestar import Response, get

from mailing.admin.charts import Segment, columns, segments
from mailing.admin.guards import VIEWER
from mailing.admin.mailings.detail import BAR
from mailing.admin.pages import page
from mailing.database.clock import database_now
from mailing.database.engine import Sessions, transaction
from mailing.mailings.counts import Counts, totals
from mailing.statistics.mailing_list import newest_mailings
from mailing.statistics.throughput import last_hours
from mailing.web import pagination
from mailing.web.pagination import Cursor, decode_cursor
from mailing.web.parameters import MAX_ID, Session
from mailing.web.state import AnyRequest, state_of

PAGE_SIZE = 20
HOURS = 24
CACHE_S = 5


@get("/statistics", guards=VIEWER)
async def statistics_page(request: AnyRequest, session: Session, cursor: Cursor = None) -> Response[str]:
    state = state_of(request)
    reader = partial(_read_totals, state.sessions)
    totals_of_all = await state.single_flight.read("statistics", reader, cache_s=CACHE_S)
    rows = await newest_mailings(session, before=decode_cursor(cursor) or MAX_ID, limit=PAGE_SIZE)
    listed = pagination.page(rows, PAGE_SIZE)
    return page(
        request,
        "statistics/page.html",
        **totals_of_all,
        rows=[(row, bar_of(row)) for row in listed.items],
        next_page=f"/admin/statistics?cursor={listed.next_cursor}" if listed.next_cursor else "",
        first_page="/admin/statistics" if cursor else "",
    )


async def _read_totals(sessions: Sessions) -> dict[str, Any]:
    async with transaction(sessions) as session:
        found = await totals(session)
        hours = await last_hours(session, HOURS, now=await database_now(session))
    return {
        "counts": found.messages,
        "mailings": found.mailings,
        "bar": bar_of(found.messages),
        "hours": hours,
        "columns": columns([hour.messages for hour in hours]),
    }


def bar_of(counts: Counts) -> list[Segment]:
    return segments({name: getattr(counts, name) for name in BAR})

"""`/admin/statistics`: all mailings together, and one by one."""

from functools import partial
from typing import Any

from litestar import Response, get
from msgspec import Struct

from mailing.admin.charts import columns, segments
from mailing.admin.guards import VIEWER
from mailing.admin.mailings.detail import BAR
from mailing.admin.pages import page
from mailing.admin.single_flight import single_flight
from mailing.database.clock import database_now
from mailing.database.engine import Sessions, transaction
from mailing.mailings.counts import Counts, totals
from mailing.statistics.mailing_list import newest_mailings
from mailing.statistics.throughput import MinuteCount, last_hours
from mailing.web import pagination
from mailing.web.pagination import Cursor, decode_cursor
from mailing.web.parameters import MAX_ID, Session
from mailing.web.state import AnyRequest, state_of

PAGE_SIZE = 20
HOURS = 24
CACHE_S = 5


class PageData(Struct, frozen=True):
    counts: Counts
    mailings: int
    hours: list[MinuteCount]


@get("/statistics", guards=VIEWER)
async def statistics_page(request: AnyRequest, session: Session, cursor: Cursor = None) -> Response[str]:
    reader = partial(read_page_data, state_of(request).sessions)
    data = await single_flight(request).read("statistics", reader, cache_s=CACHE_S)
    rows = await newest_mailings(session, before=decode_cursor(cursor) or MAX_ID, limit=PAGE_SIZE)
    listed = pagination.page(rows, PAGE_SIZE)
    return page(
        request,
        "statistics/page.html",
        counts=data.counts,
        mailings=data.mailings,
        bar=bar_of(data.counts),
        hours=data.hours,
        columns=columns([hour.messages for hour in data.hours]),
        rows=[(row, bar_of(row.counts)) for row in listed.items],
        next_page=f"/admin/statistics?cursor={listed.next_cursor}" if listed.next_cursor else "",
        first_page="/admin/statistics" if cursor else "",
    )


async def read_page_data(sessions: Sessions) -> PageData:
    async with transaction(sessions) as session:
        found = await totals(session)
        return PageData(
            found.messages, found.mailings, await last_hours(session, HOURS, now=await database_now(session))
        )


def bar_of(counts: Counts) -> list[Any]:
    return list(segments({name: getattr(counts, name) for name in BAR}))

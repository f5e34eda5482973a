"""`/admin/reports`: the daily reports with their delivery, and the report of one day."""

from datetime import date, datetime, timedelta
from functools import partial
from typing import Annotated, Any

from litestar import Response, Router, get
from litestar.params import PathParameter
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.admin.guards import VIEWER
from mailing.admin.language import instant
from mailing.admin.pages import HEADERS, HTML, page
from mailing.admin.viewer import CurrentViewer, Viewer
from mailing.database.clock import database_now
from mailing.database.engine import transaction
from mailing.errors import Invalid, NotFound
from mailing.reports import on_demand, planning
from mailing.reports.delivery_log import last_reports, next_report, report_of
from mailing.reports.render import Rendered
from mailing.reports.schedule import Day as Period
from mailing.reports.smtp import recipients_of
from mailing.reports.translations import words_in
from mailing.web.parameters import Session
from mailing.web.state import AnyRequest, AppState, state_of

CACHE_S = 5

# The mail has inline styles, which our pages forbid. It is shown in a sandboxed frame without scripts, whatever the
# text of a mailing or the reason of a gateway holds.
PAGE_WITH_FRAME = {"Content-Security-Policy": HEADERS["Content-Security-Policy"] + "; frame-src 'self'"}
IN_FRAME = HEADERS | {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; sandbox; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
}

Day = Annotated[date, PathParameter()]


@get("/", guards=VIEWER)
async def list_(request: AnyRequest, session: Session, viewer: CurrentViewer, state: AppState) -> Response[str]:
    now = await database_now(session)
    running = (await planning.calendar(session, state.settings, now=now)).running()
    return page(
        request,
        "reports/list.html",
        reports=await last_reports(session, state.settings, now=now),
        coming=await next_report(session, state.settings, now=now),
        today=running.date,
        zone=state.settings.report_timezone,
        **_label_values(state, viewer, now),
    )


@get("/{day:date}", guards=VIEWER)
async def read(
    request: AnyRequest, session: Session, viewer: CurrentViewer, state: AppState, day: Day
) -> Response[str]:
    now = await database_now(session)
    period = await _period(session, state, day, now=now)
    answer = page(
        request,
        "reports/report.html",
        day=day,
        period=period,
        report=await report_of(session, state.settings, day, now=now),
        before=day - timedelta(days=1) if day > date.min else None,
        after=day + timedelta(days=1) if period.ends <= now else None,
        **_label_values(state, viewer, now),
    )
    answer.headers.update(PAGE_WITH_FRAME)
    return answer


async def _period(session: AsyncSession, state: AppState, day: date, *, now: datetime) -> Period:
    try:
        return await planning.day_on(session, state.settings, day, now=now)
    except Invalid:
        raise NotFound("There is no report of %(day)s.", day=day) from None


def _label_values(state: AppState, viewer: Viewer, now: datetime) -> dict[str, Any]:
    """Return the values of `reports/labels.html`. Times are in the report's zone, as its days are."""
    at = partial(instant, language=viewer.language, zone=state.settings.report_timezone)
    return {"at": at, "now": now, "awaited": bool(recipients_of(state.settings))}


@get("/{day:date}/mail", guards=VIEWER)
async def mail(request: AnyRequest, viewer: CurrentViewer, day: Day) -> Response[str]:
    """Return the mail's HTML, in the viewer's language."""
    rendered = await _rendered(request, day, viewer.language)
    return Response(rendered.html, media_type=HTML, headers=IN_FRAME)


@get("/{day:date}/table", guards=VIEWER)
async def table(request: AnyRequest, viewer: CurrentViewer, day: Day) -> Response[str]:
    """Return the CSV attachment of the mail."""
    rendered = await _rendered(request, day, viewer.language)
    disposition = {"Content-Disposition": f'attachment; filename="mailings-{day}.csv"', "Cache-Control": "no-store"}
    return Response(rendered.mailings_csv, media_type="text/csv", headers=disposition)


async def _rendered(request: AnyRequest, day: date, language: str) -> Rendered:
    """Render the report. Counting takes long: concurrent requests share it, and hold no connection meanwhile."""
    state = state_of(request)
    async with transaction(state.sessions) as session:
        now = await database_now(session)
        await _period(session, state, day, now=now)
    counted = partial(on_demand.rendered_report, state.sessions, state.settings, day, now=now, words=words_in(language))
    return await state.single_flight.read(("report", day, language), counted, cache_s=CACHE_S)


reports = Router("/reports", route_handlers=[list_, read, mail, table])

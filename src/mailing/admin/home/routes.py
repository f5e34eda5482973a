from functools import partial

from litestar import Response, get

from mailing.admin import polling
from mailing.admin.guards import VIEWER
from mailing.database.engine import Sessions, transaction
from mailing.gateway.repository import read
from mailing.job_queue.inspection import job_counts, live_workers
from mailing.reports.delivery_log import last_sent_at, next_report
from mailing.settings import Settings
from mailing.statistics.latency import recent_calls
from mailing.statistics.mailing_list import open_mailings
from mailing.web.state import AnyRequest, state_of

INTERVAL_S = 3


@get(["/", "/live"], guards=VIEWER)
async def home(request: AnyRequest) -> Response[str]:
    overview = await polling.shared(request, "home", partial(_read_overview, state_of(request).settings))
    return polling.answer(request, "home/page.html", overview)


async def _read_overview(settings: Settings, sessions: Sessions) -> polling.Part:
    async with transaction(sessions) as session:
        state = await read(session)
        ready = [jobs for jobs in await job_counts(session) if jobs.state == "ready"]
        values = {
            "state": state,
            "calls": await recent_calls(session),
            "workers": await live_workers(session),
            "jobs": sum(jobs.count for jobs in ready),
            "oldest_job_s": max((jobs.age_s for jobs in ready), default=0.0),
            "report_sent_at": await last_sent_at(session),
            "next_report": await next_report(session, settings, now=state.now),
            "mailings": await open_mailings(session),
        }
    return polling.Part("home/overview.html", values, INTERVAL_S)

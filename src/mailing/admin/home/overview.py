"""Health of everything that sending needs, and the mailings in progress."""

from datetime import datetime

from msgspec import Struct, field

from mailing.admin.polling import Renderings
from mailing.database.engine import Sessions, transaction
from mailing.gateway.repository import GatewayState, read
from mailing.job_queue import inspection
from mailing.job_queue.inspection import job_counts
from mailing.reports.delivery_log import LastAndNext, last_and_next
from mailing.settings import Settings
from mailing.statistics.latency import RecentCalls, recent_calls
from mailing.statistics.mailing_list import MailingSummary, open_mailings

CACHE_S = 1.5


class PageData(Struct, frozen=True):
    """`jobs` jobs wait for a worker, the oldest for `oldest_job_s` seconds."""

    now: datetime
    gateway: GatewayState
    calls: RecentCalls
    workers: int
    jobs: int
    oldest_job_s: float
    report: LastAndNext
    mailings: list[MailingSummary]
    renderings: Renderings = field(default_factory=dict)


async def read_page_data(sessions: Sessions, settings: Settings) -> PageData:
    async with transaction(sessions) as session:
        state = await read(session)
        ready = [jobs for jobs in await job_counts(session) if jobs.state == "ready"]
        return PageData(
            now=state.now,
            gateway=state,
            calls=await recent_calls(session),
            workers=await inspection.live_workers(session),
            jobs=sum(jobs.count for jobs in ready),
            oldest_job_s=max((jobs.age_s for jobs in ready), default=0.0),
            report=await last_and_next(session, settings, now=state.now),
            mailings=await open_mailings(session),
        )

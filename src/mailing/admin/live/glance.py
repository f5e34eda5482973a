"""Health at a glance: everything that sending needs, and the mailings under way."""

from datetime import datetime

from msgspec import Struct, field

from mailing.admin.live.part import Renderings
from mailing.database.engine import Sessions, transaction
from mailing.gateway.repository import GatewayState, read
from mailing.job_queue import inspection
from mailing.job_queue.inspection import standing
from mailing.reports.delivery_log import LastAndNext, last_and_next
from mailing.settings import Settings
from mailing.statistics.latency import RecentCalls, recent_calls
from mailing.statistics.mailing_list import MailingSummary, open_mailings

READ_FOR_S = 1.5


class Glance(Struct, frozen=True):
    """`jobs` wait for a worker, the oldest for `late_s`."""

    now: datetime
    gateway: GatewayState
    calls: RecentCalls
    workers: int
    jobs: int
    late_s: float
    report: LastAndNext
    mailings: list[MailingSummary]
    kept: Renderings = field(default_factory=dict)


async def glance(sessions: Sessions, settings: Settings) -> Glance:
    async with transaction(sessions) as session:
        state = await read(session)
        ready = [jobs for jobs in await standing(session) if jobs.state == "ready"]
        return Glance(
            now=state.now,
            gateway=state,
            calls=await recent_calls(session),
            workers=await inspection.workers(session),
            jobs=sum(jobs.count for jobs in ready),
            late_s=max((jobs.age_s for jobs in ready), default=0.0),
            report=await last_and_next(session, settings, now=state.now),
            mailings=await open_mailings(session),
        )

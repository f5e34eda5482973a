"""Finds what was left undone, whoever left it: killed workers, lost jobs, outages. Repairs it and says how much."""

from mailing import crashpoints, idempotency, queue
from mailing.db import Sessions, transaction
from mailing.gateway.repository import forget_old_calls
from mailing.log import count, get
from mailing.mailings.repository import needs
from mailing.messages.leases import EVER, nothing_lost_before, reclaim_lost
from mailing.messages.pace import forget_old_minutes
from mailing.restoration.repository import restored
from mailing.sending.next_step import Policy

logger = get(__name__)

RECLAIM = 1000
FORGET = 5000  # keys or minutes; a worker keeps up with 1,000 new ones a second


class Leases:
    """What a process knows of leases that ran out: none did before `since`.

    Without that each look would walk over all that was sent since an old snapshot, which keeps VACUUM from removing its
    entries from the index.
    """

    since = EVER


async def sweep(sessions: Sessions, policy: Policy, leases: Leases) -> int:
    """Cheap when there is nothing to do: one probe of an index for each open mailing.

    A restored database is left alone: whoever resumes there wakes everything. Returns how many leases were reclaimed.
    """
    async with transaction(sessions) as session:
        if await restored(session):
            return 0
    reclaimed = await _reclaim(sessions, policy, leases)
    async with transaction(sessions) as session:
        await forget_old_calls(session)
        await forget_old_minutes(session, FORGET)
        for found in await needs(session):
            if found.plan:
                await queue.defer(session, "plan_mailing", mailing_id=found.mailing_id)
            if found.send:  # in the order of plan_mailing, so that neither waits for the other's half
                await queue.defer(session, "send_mailing", mailing_id=found.mailing_id, lane=0)
            if found.openings:
                await queue.defer(session, "settle_mailing", mailing_id=found.mailing_id)
    async with transaction(sessions) as session:
        await idempotency.forget_old(session, count=FORGET)
    if reclaimed:
        count(reclaimed=reclaimed)
        logger.warning("leases reclaimed", messages=reclaimed)
    return reclaimed


async def _reclaim(sessions: Sessions, policy: Policy, leases: Leases) -> int:
    total, moved = 0, RECLAIM
    limits = {"base_s": policy.base_s, "max_s": policy.max_s}
    while moved == RECLAIM:
        async with transaction(sessions) as session:
            moved = await reclaim_lost(session, since=leases.since, count=RECLAIM, hold=policy.hold, **limits)
            crashpoints.reached("sweep.inside")
        total += moved
    async with transaction(sessions) as session:
        leases.since = await nothing_lost_before(session, since=leases.since)
    return total

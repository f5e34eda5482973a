"""Apply new time zone rules to what is planned: send windows are computed anew where they differ."""

import asyncio

from mailing.database.clock import database_now
from mailing.database.engine import Sessions, in_transaction, transaction
from mailing.mailings.models import Mailing
from mailing.mailings.repository import lock_plan, planned_by_other_rules, set_timezone_rules
from mailing.messages.locks import lock_for_plan
from mailing.messages.rescheduling import next_pending_slice, reschedule_outdated
from mailing.observability import failures
from mailing.observability.log import get
from mailing.restore.repository import is_restored
from mailing.timezones import rules_version

logger = get(__name__)

SLICE = 20_000
CHECK_EVERY_S = 60.0


async def keep_rules_applied(sessions: Sessions) -> None:
    """Apply this process's rules once, and then to what a process with older rules still plans, until cancelled.

    Only older rules are replaced later: two processes with different rules would recompute each other's windows for
    ever. Before each call, its process compares the window with its own rules anyway (`local_hours`).
    """
    only_older = False
    while True:
        try:
            await apply_rules(sessions, only_older=only_older)
            only_older = True
        except Exception as error:  # noqa: BLE001 - logged, and tried again
            failures.log(logger, "time zone rules not applied", error)
        await asyncio.sleep(CHECK_EVERY_S)


async def apply_rules(sessions: Sessions, *, only_older: bool = False) -> None:
    """Recompute the unsent messages of mailings that were planned by other rules, in slices of SLICE messages."""
    rules = await asyncio.to_thread(rules_version)
    async with transaction(sessions) as session:
        mailing_ids = (
            [] if await is_restored(session) else await planned_by_other_rules(session, rules, only_older=only_older)
        )
    for mailing_id in mailing_ids:
        async with transaction(sessions) as session:
            mailing = await session.get_one(Mailing, mailing_id)
        await _apply(sessions, mailing, rules)


async def _apply(sessions: Sessions, mailing: Mailing, rules: str) -> None:
    """Recompute one mailing. End early if it is edited: the plan of the edit computes by the rules of its worker."""
    moved, after = 0, 0
    while after >= 0:
        async with transaction(sessions) as session:
            if not await lock_plan(session, mailing.id, mailing.plan_revision):
                return
            if not await lock_for_plan(session):
                continue
            part = await next_pending_slice(session, mailing.id, after=after, count=SLICE)
            if part is None:
                break
            now = await database_now(session)
            windows = [mailing.next_window(zone, now) for zone in part.timezones]
            moved += await reschedule_outdated(session, mailing.id, part, windows, count=SLICE)
            after = part.last
    await in_transaction(sessions, set_timezone_rules, mailing, rules)
    logger.info("time zone rules applied", mailing_id=mailing.id, rules=rules, messages=moved)

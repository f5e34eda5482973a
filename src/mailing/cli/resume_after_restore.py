"""`mailing resume-after-restore`: what a restored database can't know is settled, then it sends again.

Every step is a transaction of its own that finds what is left to do: after an interruption it is simply run again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncSession

from mailing import events
from mailing.database.engine import Sessions, transaction
from mailing.job_queue.enqueue import defer
from mailing.mailings.after_restore import affected, pause_unknown_audiences, started, started_drafts
from mailing.messages.after_restore import UNSENT, MessageSlice, mark_unsent_ambiguous
from mailing.restore import repository as restoration


@dataclass(frozen=True)
class Plan:
    """`hold`: what may have been sent is parked as `unknown`; otherwise it is sent again under the same id.

    `told`: somebody knows that the database was restored, whether it can be noticed or not.
    """

    hold: bool
    say: Callable[[str], None]
    told: bool = False


async def forecast(sessions: Sessions, plan: Plan) -> None:
    """Says what `resume` would do, and changes nothing."""
    if not await _wanted(sessions, plan):
        return
    async with transaction(sessions) as session:
        plan.say(_ids(await restoration.next_ids(session)))
        for mailing in await affected(session):
            if mailing.unsent:
                plan.say(_doubted(mailing.mailing_id, mailing.unsent, plan))
            if mailing.to_pause:
                plan.say(_paused(mailing.mailing_id))
        await _tell_drafts(session, plan)
    plan.say("Nothing was changed: all this happens without --dry-run, and then sending goes on.")


async def resume(sessions: Sessions, plan: Plan) -> None:
    """Raises MailingError when somebody else has resumed meanwhile."""
    if not await _wanted(sessions, plan):
        return
    began_at = await raise_ids(sessions, plan)
    messages = await doubt_messages(sessions, plan, began_at)
    paused = await pause_mailings(sessions, plan)
    await send_again(sessions, messages=messages, paused=paused)
    plan.say("Sending goes on.")


async def _wanted(sessions: Sessions, plan: Plan) -> bool:
    async with transaction(sessions) as session:
        wanted = plan.told or await restoration.is_restored(session)
    if not wanted:
        plan.say("This database was not restored from a backup: nothing to do.")
    return wanted


async def raise_ids(sessions: Sessions, plan: Plan) -> datetime:
    """Past any that may have been used. Returns when this resume began."""
    async with transaction(sessions) as session:
        if plan.told:
            await restoration.set_aside(session)
        await restoration.hold_restored(session)
        began_at = await restoration.begin(session)
        plan.say(_ids(await restoration.coming_ids(session)))
    return began_at


async def doubt_messages(sessions: Sessions, plan: Plan, began_at: datetime) -> int:
    """Every message that the backup shows as unsent may have been sent. Returns how many it was this time."""
    async with transaction(sessions) as session:
        mailings = [mailing.mailing_id for mailing in await affected(session) if mailing.unsent]
    total = 0
    for mailing_id in mailings:
        counts = [
            await _doubt(sessions, MessageSlice(mailing_id, status), began_at, hold=plan.hold) for status in UNSENT
        ]
        if any(counts):
            plan.say(_doubted(mailing_id, sum(counts), plan))
        total += sum(counts)
    return total


async def _doubt(sessions: Sessions, part: MessageSlice, began_at: datetime, *, hold: bool) -> int:
    total = 0
    while part.after is not None:
        async with transaction(sessions) as session:
            await restoration.hold_restored(session)
            count, last = await mark_unsent_ambiguous(session, part, began_at=began_at, hold=hold)
        total, part = total + count, replace(part, after=last)
    return total


async def pause_mailings(sessions: Sessions, plan: Plan) -> int:
    """Those whose messages may have gone out under ids that this database never knew: an operator decides."""
    async with transaction(sessions) as session:
        await restoration.hold_restored(session)
        paused = await pause_unknown_audiences(session)
        for mailing_id in paused:
            await events.record_event(
                session, "mailing.paused", by=events.COMMAND_LINE, mailing_id=mailing_id, reason="restored"
            )
            plan.say(_paused(mailing_id))
        await _tell_drafts(session, plan)
    return len(paused)


async def _tell_drafts(session: AsyncSession, plan: Plan) -> None:
    for mailing_id in await started_drafts(session):
        plan.say(_draft(mailing_id))


async def send_again(sessions: Sessions, *, messages: int, paused: int) -> None:
    """The last step: from its commit on, workers find that they may."""
    async with transaction(sessions) as session:
        await restoration.hold_restored(session)
        await restoration.finish(session)
        await events.record_event(
            session, "database.resumed_after_restore", by=events.COMMAND_LINE, messages=messages, paused=paused
        )
        for mailing_id in await started(session):
            await defer(session, "plan_mailing", mailing_id=mailing_id)


def _ids(coming: dict[str, int]) -> str:
    return "new ids begin at: " + ", ".join(f"{table} {number}" for table, number in coming.items())


def _doubted(mailing_id: int, count: int, plan: Plan) -> str:
    then = "parked as unknown" if plan.hold else "to be sent again under the same ids"
    return f"mailing {mailing_id}: {count} unsent at the backup may have been sent since; {then}"


def _draft(mailing_id: int) -> str:
    return (
        f"mailing {mailing_id}: a draft whose start has passed; it may have been released and sent since the backup: "
        "look before it is released"
    )


def _paused(mailing_id: int) -> str:
    return f"mailing {mailing_id}: whom it reached since the backup is not known; paused: resume or cancel it"

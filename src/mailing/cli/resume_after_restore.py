"""`mailing resume-after-restore`: settle what a restored database cannot know, then enable sending again.

Each step is a transaction of its own and finds what is left to do. After an interruption, run the command again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import click
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncSession

from mailing import events
from mailing.cli.database import with_database
from mailing.cli.options import example
from mailing.cli.runtime import configured
from mailing.database.engine import Sessions, transaction
from mailing.errors import MailingError
from mailing.gateway.providers import holds_unknown
from mailing.mailings.after_restore import affected, pause_unknown_audiences, started_drafts, wake_started
from mailing.messages.after_restore import UNSENT, MessageSlice, mark_unsent_ambiguous
from mailing.restore import repository as restore

NOT_NEEDED = "This database was not restored from a backup. Nothing to do."


@click.command("resume-after-restore", epilog=example("mailing resume-after-restore --dry-run"))
@click.option("--dry-run", is_flag=True, help="Print what would be done and change nothing.")
@click.option(
    "--force",
    "forced",
    is_flag=True,
    help="Act even if no restore was detected, such as after copying data files back.",
)
@click.option(
    "--nothing-was-lost",
    "lossless",
    is_flag=True,
    help="After a failover that lost nothing: enable sending and mark no message.",
)
def resume_after_restore(*, dry_run: bool, forced: bool, lossless: bool) -> None:
    """Enable sending from a database that was restored from a backup. Until then nothing is sent from it.

    Messages that may have been sent since the backup are sent again under the same ids, or parked as unknown,
    depending on MAILING_ON_UNKNOWN.
    """
    if lossless and (dry_run or forced):
        raise click.UsageError("--nothing-was-lost cannot be combined with another option")
    settings = configured()
    options = Options(hold=holds_unknown(settings), echo=click.echo, forced=forced)
    work = resume_without_loss if lossless else forecast if dry_run else resume
    with_database(lambda sessions: work(sessions, options), settings)


@dataclass(frozen=True)
class Options:
    """`hold`: park messages that may have been sent as `unknown` instead of sending them again under the same id.

    `forced`: treat the database as restored even where no restore was detected.
    """

    hold: bool
    echo: Callable[[str], None]
    forced: bool = False


async def forecast(sessions: Sessions, options: Options) -> None:
    """Print what `resume` would do and change nothing."""
    if not await _is_needed(sessions, options):
        return
    async with transaction(sessions) as session:
        options.echo(_ids(await restore.next_ids(session)))
        for mailing in await affected(session):
            if mailing.unsent:
                options.echo(_ambiguous(mailing.mailing_id, mailing.unsent, options))
            if mailing.to_pause:
                options.echo(_paused(mailing.mailing_id))
        await _list_started_drafts(session, options)
    options.echo("Nothing was changed. Without --dry-run, all this is done and sending is enabled.")


async def resume(sessions: Sessions, options: Options) -> None:
    """Raise MailingError if another command has resumed meanwhile."""
    if not await _is_needed(sessions, options):
        return
    began_at = await raise_ids(sessions, options)
    messages = await mark_ambiguous(sessions, options, began_at)
    paused = await pause_mailings(sessions, options)
    await enable_sending(sessions, messages=messages, paused=paused)
    options.echo("Sending is enabled.")


async def resume_without_loss(sessions: Sessions, options: Options) -> None:
    """Enable sending after a failover of which the operator knows that it lost nothing. No message is marked.

    Raise MailingError if a process has found something missing.
    """
    async with transaction(sessions) as session:
        known = await restore.identities(session)
        if known.home == restore.RESTORED_MARK:
            raise MailingError(
                "a process found an acknowledged commit missing; run the command without --nothing-was-lost"
            )
        if known.home == known.here:
            options.echo(NOT_NEEDED)
            return
        if not await restore.resume_after_failover(session, home=known.home, here=known.here, by=events.COMMAND_LINE):
            raise MailingError("the database has changed meanwhile; run the command again")
        await wake_started(session)
    options.echo("Sending is enabled. No message was marked.")


async def _is_needed(sessions: Sessions, options: Options) -> bool:
    async with transaction(sessions) as session:
        needed = options.forced or await restore.is_restored(session)
    if not needed:
        options.echo(NOT_NEEDED)
    return needed


async def raise_ids(sessions: Sessions, options: Options) -> datetime:
    """Raise the ids past any that may have been used since the backup. Return when this resume began."""
    async with transaction(sessions) as session:
        if options.forced:
            await restore.mark_restored(session)
        await restore.lock_restored(session)
        began_at = await restore.begin(session)
        options.echo(_ids(await restore.coming_ids(session)))
    return began_at


async def mark_ambiguous(sessions: Sessions, options: Options, began_at: datetime) -> int:
    """Mark every message that the backup shows as unsent: it may have been sent. Return how many were marked."""
    async with transaction(sessions) as session:
        mailings = [mailing.mailing_id for mailing in await affected(session) if mailing.unsent]
    total = 0
    for mailing_id in mailings:
        slices = [MessageSlice(mailing_id, status) for status in UNSENT]
        marked = sum([await _mark(sessions, each, began_at, hold=options.hold) for each in slices])
        if marked:
            options.echo(_ambiguous(mailing_id, marked, options))
        total += marked
    return total


async def _mark(sessions: Sessions, part: MessageSlice, began_at: datetime, *, hold: bool) -> int:
    total = 0
    while part.after is not None:
        async with transaction(sessions) as session:
            await restore.lock_restored(session)
            count, last = await mark_unsent_ambiguous(session, part, began_at=began_at, hold=hold)
        total, part = total + count, replace(part, after=last)
    return total


async def pause_mailings(sessions: Sessions, options: Options) -> int:
    """Pause mailings whose messages may have gone out under ids that this database never had. An operator decides."""
    async with transaction(sessions) as session:
        await restore.lock_restored(session)
        paused = await pause_unknown_audiences(session)
        for mailing_id in paused:
            await events.record_event(
                session, "mailing.paused", by=events.COMMAND_LINE, mailing_id=mailing_id, reason="restored"
            )
            options.echo(_paused(mailing_id))
        await _list_started_drafts(session, options)
    return len(paused)


async def _list_started_drafts(session: AsyncSession, options: Options) -> None:
    for mailing_id in await started_drafts(session):
        begun = (
            f"mailing {mailing_id}: draft whose start has passed; it may have been released and sent since the backup"
        )
        options.echo(f"{begun}, so check before you release it")


async def enable_sending(sessions: Sessions, *, messages: int, paused: int) -> None:
    """Enable sending. It is the last step: from its commit on, workers may send."""
    async with transaction(sessions) as session:
        await restore.lock_restored(session)
        await restore.finish(session)
        await events.record_event(
            session, "database.resumed_after_restore", by=events.COMMAND_LINE, messages=messages, paused=paused
        )
        await wake_started(session)


def _ids(coming: dict[str, int]) -> str:
    return "new ids start at: " + ", ".join(f"{table} {number}" for table, number in coming.items())


def _ambiguous(mailing_id: int, count: int, options: Options) -> str:
    then = "parked as unknown" if options.hold else "to be sent again under the same ids"
    return f"mailing {mailing_id}: {count} messages unsent in the backup may have been sent since; {then}"


def _paused(mailing_id: int) -> str:
    return f"mailing {mailing_id}: paused, its recipients since the backup are unknown; resume or cancel it"

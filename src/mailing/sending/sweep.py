"""Recover what killed workers, lost jobs and outages left undone, and log how much it was."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from sqlalchemy.ext.asyncio import AsyncSession

from mailing import failpoints
from mailing.database.engine import Sessions, in_transaction, transaction
from mailing.database.errors import transient
from mailing.gateway.circuit_breaker import delete_old_calls
from mailing.job_queue.enqueue import CONTINUED_PRIORITY, Wake, defer_all, ready
from mailing.mailings.repository import PendingWork, closed_with_pending, find_pending_work
from mailing.messages.leases import RetryPolicy, find_expired, reclaim_expired
from mailing.messages.redaction import delete_old_minutes
from mailing.messages.resolution import resolve_by_receipts
from mailing.observability import failures
from mailing.observability.log import get, increment
from mailing.restore.repository import delete_old_witnesses, is_restored
from mailing.web import idempotency_keys

logger = get(__name__)

MAX_RECLAIMED = 1000  # messages, in one statement
MAX_MAILINGS = 500  # in one transaction
MAX_DOUBTFUL = 10_000  # messages in doubt, 20 ms if none of them has a receipt
MAX_DELETED = 5000  # keys or minutes; a worker keeps up with 1,000 new ones a second


async def sweep(sessions: Sessions, policy: RetryPolicy | None, active: Collection[int] = ()) -> int:
    """Recover leases and jobs, and delete old rows. Return how many leases were reclaimed.

    Cheap when there is nothing to do: one index probe for each open mailing. Does nothing in a restored database:
    `mailing resume-after-restore` enqueues everything there. `active` are the mailings that this process is sending.
    Without a `policy` no lease is reclaimed and no receipt is looked at. A part that fails does not keep the others
    from running.
    """
    if await in_transaction(sessions, is_restored):
        return 0
    reclaimed = await _reclaim_leases(sessions, policy) if policy else 0
    with _isolated("work"):
        await _enqueue_missing(sessions, active)
    for part, clean in CLEANUP.items():
        with _isolated(part):
            await in_transaction(sessions, clean)
    return reclaimed


async def _reclaim_leases(sessions: Sessions, policy: RetryPolicy) -> int:
    reclaimed = 0
    with _isolated("leases"):
        async for moved in _reclaim(sessions, policy):
            reclaimed += moved
    with _isolated("receipts"):
        await _resolve(sessions)
    if reclaimed:
        increment(reclaimed=reclaimed)
        logger.warning("leases reclaimed", messages=reclaimed)
    return reclaimed


CLEANUP: Mapping[str, Callable[[AsyncSession], Awaitable[None]]] = {
    "calls": delete_old_calls,
    "minutes": partial(delete_old_minutes, count=MAX_DELETED),
    "witnesses": delete_old_witnesses,
    "keys": partial(idempotency_keys.delete_expired, count=MAX_DELETED),
}


@contextmanager
def _isolated(part: str) -> Iterator[None]:
    """Log a failure, and leave the part to the next sweep."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - logged
        failures.log(logger, "sweep part failed", error, part=part)


async def _enqueue_missing(sessions: Sessions, active: Collection[int]) -> None:
    """Enqueue jobs for mailings that have work and no waiting job, in slices: thousands may begin in one second."""
    async with transaction(sessions) as session:
        closed = await closed_with_pending(session, count=MAX_MAILINGS)
        await defer_all(session, [Wake("settle_mailing", {"mailing_id": mailing_id}) for mailing_id in closed])
    after: int | None = 0
    while after is not None:
        after = await _enqueue_slice(sessions, active, after=after)


async def _enqueue_slice(sessions: Sessions, active: Collection[int], *, after: int) -> int | None:
    """Return the last mailing of the slice; None after the last of all."""
    async with transaction(sessions) as session:
        found = await find_pending_work(session, after=after, count=MAX_MAILINGS)
        wakes = [wake for each in found for wake in _jobs_for(each)]
        if wakes:
            standing = await ready(session, found[0].mailing_id, found[-1].mailing_id)
            standing |= {("send_mailing", mailing_id) for mailing_id in active}
            await defer_all(session, [wake for wake in wakes if (wake.task, wake.args["mailing_id"]) not in standing])
    return found[-1].mailing_id if len(found) == MAX_MAILINGS else None


def _jobs_for(found: PendingWork) -> Iterator[Wake]:
    """Enqueue in the order of `plan_mailing`: otherwise each could wait for a row that the other holds."""
    if found.plan:
        yield Wake("plan_mailing", {"mailing_id": found.mailing_id})
    if found.send:
        yield Wake("send_mailing", {"mailing_id": found.mailing_id, "lane": 0}, CONTINUED_PRIORITY)
    if found.reschedule:
        yield Wake("settle_mailing", {"mailing_id": found.mailing_id})


async def _reclaim(sessions: Sessions, policy: RetryPolicy) -> AsyncIterator[int]:
    """Reclaim many at a time, and one by one if a message refuses: that one is left, and the others are reclaimed."""
    expired = await in_transaction(sessions, find_expired)
    for first in range(0, len(expired), MAX_RECLAIMED):
        ids = expired[first : first + MAX_RECLAIMED]
        try:
            yield await _reclaim_batch(sessions, policy, ids)
        except transient():
            raise
        except Exception:  # noqa: BLE001 - logged once the message is alone
            for message_id in ids:
                yield await _reclaim_one(sessions, policy, message_id)


async def _reclaim_one(sessions: Sessions, policy: RetryPolicy, message_id: int) -> int:
    try:
        return await _reclaim_batch(sessions, policy, [message_id])
    except transient():
        raise
    except Exception as error:  # noqa: BLE001 - logged
        failures.log(logger, "lease refused", error, message_id=message_id)
        return 0


async def _reclaim_batch(sessions: Sessions, policy: RetryPolicy, ids: Sequence[int]) -> int:
    async with transaction(sessions) as session:
        moved = await reclaim_expired(session, policy, ids)
        failpoints.hit("sweep.inside")
    return moved


async def _resolve(sessions: Sessions) -> None:
    after: int | None = 0
    while after is not None:
        resolved, after = await in_transaction(sessions, resolve_by_receipts, after=after, count=MAX_DOUBTFUL)
        if resolved:
            logger.info("resolved by receipts", messages=resolved)

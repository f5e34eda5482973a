"""Find and repair what killed workers, lost jobs and outages left undone."""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from sqlalchemy.ext.asyncio import AsyncSession

from mailing import failpoints
from mailing.database.engine import Sessions, transaction
from mailing.database.errors import transient
from mailing.gateway.circuit_breaker import forget_old_calls
from mailing.job_queue.bulk import Wake, defer_all, ready
from mailing.job_queue.enqueue import CONTINUED
from mailing.mailings.repository import PendingWork, closed_with_pending, find_pending_work
from mailing.messages.leases import BEGINNING, Repeat, lost, oldest_unexpired_lease, reclaim_expired
from mailing.messages.redaction import forget_old_minutes
from mailing.observability import failures
from mailing.observability.log import get, increment
from mailing.restore.repository import is_restored
from mailing.sending.retry_policy import RetryPolicy
from mailing.web import idempotency

logger = get(__name__)

RECLAIM = 1000
AT_ONCE = 500  # mailings
FORGET = 5000  # keys or minutes; a worker keeps up with 1,000 new ones per second


class LeaseScanCursor:
    """The scan position of a process: no lease expired before `since`.

    Without it each scan would read all entries of messages sent since an old snapshot, which VACUUM cannot remove.
    """

    since = BEGINNING
    reclaimed = 0  # since the last log line


async def sweep(sessions: Sessions, policy: RetryPolicy, leases: LeaseScanCursor, active: Collection[int] = ()) -> int:
    """Run every part of the sweep. Return how many leases were reclaimed.

    Without work it costs one index probe for each open mailing. It skips a restored database, where resuming enqueues
    the jobs. `active` are the mailings that this process is sending. A failing part does not affect the others.
    """
    async with transaction(sessions) as session:
        if await is_restored(session):
            return 0
    repeat = Repeat(policy.hold, policy.base_s, policy.max_s)
    with _apart("leases"):
        await _reclaim(sessions, repeat, leases)
    with _apart("work"):
        await _wake(sessions, active)
    for part, forget in FORGETTING.items():
        with _apart(part):
            async with transaction(sessions) as session:
                await forget(session)
    reclaimed, leases.reclaimed = leases.reclaimed, 0
    if reclaimed:
        increment(reclaimed=reclaimed)
        logger.warning("leases reclaimed", messages=reclaimed)
    return reclaimed


FORGETTING: Mapping[str, Callable[[AsyncSession], Awaitable[None]]] = {
    "calls": forget_old_calls,
    "minutes": partial(forget_old_minutes, count=FORGET),
    "keys": partial(idempotency.forget_old, count=FORGET),
}


@contextmanager
def _apart(part: str) -> Iterator[None]:
    """Log an error and leave the rest to the next sweep."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - logged
        failures.log(logger, "a part of the sweep failed", error, part=part)


async def _wake(sessions: Sessions, active: Collection[int]) -> None:
    """Enqueue jobs for mailings with work but no ready job, in slices: thousands may start in one second."""
    async with transaction(sessions) as session:
        closed = await closed_with_pending(session, count=AT_ONCE)
        await defer_all(session, [Wake("settle_mailing", {"mailing_id": mailing_id}) for mailing_id in closed])
    after: int | None = 0
    while after is not None:
        after = await _wake_slice(sessions, active, after=after)


async def _wake_slice(sessions: Sessions, active: Collection[int], *, after: int) -> int | None:
    """Enqueue jobs for a slice. Return its last mailing, None after the last of all."""
    async with transaction(sessions) as session:
        found = await find_pending_work(session, after=after, count=AT_ONCE)
        wakes = [wake for each in found for wake in _wakes(each)]
        if wakes:
            standing = await ready(session, found[0].mailing_id, found[-1].mailing_id)
            standing |= {("send_mailing", mailing_id) for mailing_id in active}
            await defer_all(session, [wake for wake in wakes if (wake.task, wake.args["mailing_id"]) not in standing])
    return found[-1].mailing_id if len(found) == AT_ONCE else None


def _wakes(found: PendingWork) -> Iterator[Wake]:
    """Yield jobs in the order of plan_mailing, so that the two cannot deadlock."""
    if found.plan:
        yield Wake("plan_mailing", {"mailing_id": found.mailing_id})
    if found.send:
        yield Wake("send_mailing", {"mailing_id": found.mailing_id, "lane": 0}, CONTINUED)
    if found.reschedule:
        yield Wake("settle_mailing", {"mailing_id": found.mailing_id})


async def _reclaim(sessions: Sessions, repeat: Repeat, leases: LeaseScanCursor) -> None:
    """Reclaim leases in batches, one by one if a message makes the batch fail: that one is skipped."""
    moved = RECLAIM
    while moved == RECLAIM:
        try:
            moved = await _taken_back(sessions, repeat, leases, count=RECLAIM)
        except transient():
            raise
        except Exception:  # noqa: BLE001 - logged when it is alone
            await _reclaim_singly(sessions, repeat, leases)
            break
    async with transaction(sessions) as session:
        leases.since = await oldest_unexpired_lease(session, since=leases.since)


async def _reclaim_singly(sessions: Sessions, repeat: Repeat, leases: LeaseScanCursor) -> None:
    async with transaction(sessions) as session:
        ids = await lost(session, since=leases.since, count=RECLAIM)
    for message_id in ids:
        try:
            await _taken_back(sessions, repeat, leases, only=message_id)
        except transient():
            raise
        except Exception as error:  # noqa: BLE001 - logged
            failures.log(logger, "lease refused", error, message_id=message_id)


async def _taken_back(
    sessions: Sessions, repeat: Repeat, leases: LeaseScanCursor, *, count: int = 1, only: int | None = None
) -> int:
    async with transaction(sessions) as session:
        moved = await reclaim_expired(session, repeat, since=leases.since, count=count, only=only)
        failpoints.hit("sweep.inside")
    leases.reclaimed += moved
    return moved

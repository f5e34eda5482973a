"""Many calls, one timer."""

import asyncio

import pytest

from mailing.gateway.deadline import Deadline, Deadlines

HANG_GUARD_S = 60.0


async def _hang(deadlines: Deadlines, timeout_s: float) -> None:
    with Deadline(deadlines, timeout_s=timeout_s, time_left_s=HANG_GUARD_S):
        await asyncio.Event().wait()


async def test_a_call_that_begins_later_may_end_first() -> None:
    deadlines = Deadlines()
    longer = asyncio.create_task(_hang(deadlines, HANG_GUARD_S))
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await _hang(deadlines, 0.01)
    assert not longer.done()
    longer.cancel()


async def test_each_call_ends_and_the_timer_goes_on_to_the_next() -> None:
    deadlines = Deadlines()
    calls = (_hang(deadlines, timeout_s) for timeout_s in (0.02, 0.2, 0.01, 0.1))
    async with asyncio.timeout(HANG_GUARD_S / 2):
        ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(end) for end in ends] == [TimeoutError] * 4


async def test_the_timer_of_a_call_that_has_ended_ends_no_other() -> None:
    deadlines = Deadlines()
    with Deadline(deadlines, timeout_s=0.01, time_left_s=HANG_GUARD_S):
        pass
    with Deadline(deadlines, timeout_s=HANG_GUARD_S, time_left_s=HANG_GUARD_S):
        await asyncio.sleep(0.03)


async def _wait_after_permission(permission: asyncio.Event) -> None:
    with Deadline(Deadlines(), timeout_s=0.01, time_left_s=HANG_GUARD_S) as deadline:
        asyncio.get_running_loop().call_later(0.03, permission.set)
        await deadline.suspend_for(permission.wait())
        await asyncio.Event().wait()


async def test_the_time_of_a_permission_is_not_the_calls() -> None:
    permission = asyncio.Event()
    async with asyncio.timeout(HANG_GUARD_S / 2):
        with pytest.raises(TimeoutError):
            await _wait_after_permission(permission)
    assert permission.is_set()


async def test_a_permission_ends_with_the_message() -> None:
    with pytest.raises(TimeoutError), Deadline(Deadlines(), timeout_s=HANG_GUARD_S, time_left_s=0.01) as deadline:
        await deadline.suspend_for(asyncio.Event().wait())
    assert deadline.suspended


@pytest.mark.parametrize("expires_too", [False, True], ids=["before it is over", "as it is over"])
async def test_a_call_that_is_cancelled_is_not_taken_for_one_that_took_too_long(expires_too: bool) -> None:
    deadlines = Deadlines()
    call = asyncio.create_task(_hang(deadlines, HANG_GUARD_S))
    await asyncio.sleep(0)
    if expires_too:
        (deadline,) = deadlines.running
        deadline.expire()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not deadlines.running

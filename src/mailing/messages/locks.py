"""Locks between plans and changes of clients: each sees what the other has committed."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


async def lock_for_plan(session: AsyncSession) -> bool:
    """Keep clients from moving, opting out and being deleted until the commit.

    What is read from here on still holds then.

    False: a change of clients holds the lock for long. Commit, and try again.
    """
    return bool((await session.execute(text("SELECT lock_for_plan()"))).scalar_one())


async def lock_for_client_change(session: AsyncSession) -> None:
    """Keep plans from computing send windows until the commit. All windows computed before are visible from here on."""
    await session.execute(text("SELECT lock_for_client_change()"))

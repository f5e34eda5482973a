"""Locks between a plan and a change of clients: each sees what the other has committed."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


async def lock_for_plan(session: AsyncSession) -> bool:
    """From here to the commit no client moves, opts out or goes; what is read afterwards is true at the commit.

    False: somebody who changes clients holds the lock for long. Commit, and ask again.
    """
    locked: bool = (await session.execute(text("SELECT lock_for_plan()"))).scalar_one()
    return locked


async def lock_for_client_change(session: AsyncSession) -> None:
    """From here to the commit nobody computes when clients may be sent to; what was computed is there to be seen."""
    await session.execute(text("SELECT lock_for_client_change()"))

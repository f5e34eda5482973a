"""The key of the addresses. It never changes, so each process reads it once."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_READ = text("SELECT receipt_key FROM installation")


async def read_key(session: AsyncSession) -> bytes:
    return bytes((await session.execute(_READ)).scalar_one())

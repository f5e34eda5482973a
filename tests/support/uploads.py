"""Files as a browser would send them, and what has become of them."""

import io

from sqlalchemy import text

from mailing.clients.csv_reader import RejectedField
from mailing.clients.upload import actions
from mailing.clients.upload.repository import get_upload, rejected_fields
from mailing.clients.upload.schemas import Upload
from mailing.database.engine import Sessions, transaction

HEADER = "phone,operator_code,tag,timezone\n"


def file_of(count: int, *, bad: int = 0) -> bytes:
    """`count` good rows, and bad ones at the end."""
    good = "".join(f"7916{n:07d},,vip,Europe/Moscow\n" for n in range(count))
    return (HEADER + good + "8916,,vip,Mars\n" * bad).encode()


async def kept(sessions: Sessions, file: bytes, *, name: str = "clients.csv", by: str = "user 1 (anna)") -> int:
    async def read(size: int) -> bytes:
        return source.read(size)

    source = io.BytesIO(file)
    async with transaction(sessions) as session:
        return await actions.save_upload(session, read, name=name, size=len(file), by=by)


async def confirmed(sessions: Sessions, file: bytes, *, by: str = "user 1 (anna)") -> int:
    upload_id = await kept(sessions, file, by=by)
    async with transaction(sessions) as session:
        await actions.confirm(session, upload_id, by=by)
    return upload_id


async def upload_of(sessions: Sessions, upload_id: int) -> Upload:
    async with transaction(sessions) as session:
        return await get_upload(session, upload_id)


async def refused(sessions: Sessions, upload_id: int) -> list[RejectedField]:
    async with transaction(sessions) as session:
        return await rejected_fields(session, upload_id, count=100_000)


async def counted(sessions: Sessions, table: str) -> int:
    async with transaction(sessions) as session:
        found: int = (await session.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one()
        return found

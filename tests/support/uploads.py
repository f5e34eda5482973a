"""Files as a browser would send them, and what has become of them."""

import io

from mailing.clients.csv_reader import RejectedField
from mailing.clients.upload import actions
from mailing.clients.upload.repository import get_upload, rejected_fields
from mailing.clients.upload.schemas import Upload
from support.database import Database

HEADER = "phone,operator_code,tag,timezone\n"


def file_of(count: int, *, bad: int = 0) -> bytes:
    """`count` good rows, and bad ones at the end."""
    good = "".join(f"7916{n:07d},,vip,Europe/Moscow\n" for n in range(count))
    return (HEADER + good + "8916,,vip,Mars\n" * bad).encode()


async def kept(db: Database, file: bytes, *, name: str = "clients.csv", by: str = "user 1 (anna)") -> int:
    async def read(size: int) -> bytes:
        return source.read(size)

    source = io.BytesIO(file)
    await actions.ensure_importable(read, size=len(file))
    source.seek(0)
    return await db.commit(actions.save_upload, read, name=name, size=len(file), by=by)


async def confirmed(db: Database, file: bytes, *, by: str = "user 1 (anna)") -> int:
    upload_id = await kept(db, file, by=by)
    await db.commit(actions.confirm, upload_id, by=by)
    return upload_id


async def upload_of(db: Database, upload_id: int) -> Upload:
    return await db.commit(get_upload, upload_id)


async def refused(db: Database, upload_id: int) -> list[RejectedField]:
    return await db.commit(rejected_fields, upload_id, count=100_000)


async def counted(db: Database, table: str) -> int:
    return int(await db.value(f"SELECT count(*) FROM {table}"))

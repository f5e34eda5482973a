"""Statements on uploads. They use the primary keys, unless they say otherwise."""

import json
from collections.abc import Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.clients.csv_reader import RejectedField
from mailing.clients.csv_transfer import ImportOutcome
from mailing.clients.upload.schemas import ImportLease, Upload
from mailing.database.rows import one_as, rows_affected
from mailing.errors import NotFound
from mailing.reasons.refusals import Refusal, RefusalCode

UNCONFIRMED_RETENTION_H = 24
RESULT_RETENTION_D = 7
MAX_ATTEMPTS = 5
LEASE_S = 60

_COLUMNS = ", ".join(Upload.__struct_fields__)

# Files that are still stored. Their number is limited: no index.
_PENDING_FILES = text("""
    SELECT count(*) FILTER (WHERE actor = :actor) AS own,
        coalesce(sum(size) FILTER (WHERE actor = :actor), 0)::bigint AS own_bytes,
        count(*) AS all, coalesce(sum(size), 0)::bigint AS all_bytes
    FROM upload WHERE status IN ('uploaded', 'waiting', 'importing')
""")


class PendingFiles(Struct):
    """The number of files that wait or are being imported, and their bytes: of one user, and of all users."""

    own: int
    own_bytes: int
    all: int
    all_bytes: int


async def pending_files(session: AsyncSession, actor: str) -> PendingFiles:
    return one_as(PendingFiles, await session.execute(_PENDING_FILES, {"actor": actor}))


_ADD = text("INSERT INTO upload (name, actor, size) VALUES (:name, :actor, :size) RETURNING id")
_ADD_CHUNK = text("INSERT INTO upload_chunk (upload_id, number, data) VALUES (:upload_id, :number, :data)")


async def add_upload(session: AsyncSession, *, name: str, actor: str, size: int) -> int:
    added: int = (await session.execute(_ADD, {"name": name, "actor": actor, "size": size})).scalar_one()
    return added


async def add_chunk(session: AsyncSession, upload_id: int, *, number: int, data: bytes) -> None:
    await session.execute(_ADD_CHUNK, {"upload_id": upload_id, "number": number, "data": data})


_GET = text(f"SELECT {_COLUMNS} FROM upload WHERE id = :id")  # noqa: S608 - the columns are ours
_NEWEST = text(f"""
    SELECT {_COLUMNS} FROM upload ORDER BY (status = 'uploaded' AND actor = :actor) DESC, id DESC LIMIT :count
""")  # noqa: S608 - as above
_CHUNK = text("SELECT data FROM upload_chunk WHERE upload_id = :upload_id AND number = :number")


async def get_upload(session: AsyncSession, upload_id: int) -> Upload:
    row = (await session.execute(_GET, {"id": upload_id})).mappings().first()
    if row is None:
        gone = "There is no upload %(id)s: it was discarded, or deleted after %(days)s days."
        raise NotFound(gone, id=upload_id, days=RESULT_RETENTION_D)
    return _upload(row)


async def newest_uploads(session: AsyncSession, *, count: int, actor: str) -> list[Upload]:
    """List uploads, newest first, but before them those that `actor` has to confirm or discard."""
    return [_upload(row) for row in (await session.execute(_NEWEST, {"count": count, "actor": actor})).mappings()]


async def read_chunk(session: AsyncSession, upload_id: int, *, number: int) -> bytes:
    """Read a chunk; empty beyond the end."""
    return await session.scalar(_CHUNK, {"upload_id": upload_id, "number": number}) or b""


_CONFIRM = text("UPDATE upload SET status = 'waiting' WHERE id = :id AND status = 'uploaded'")
_DISCARD = text("DELETE FROM upload WHERE id = :id AND status = 'uploaded'")


async def confirm(session: AsyncSession, upload_id: int) -> bool:
    """Confirm an upload. False: it was confirmed before."""
    return await rows_affected(session, _CONFIRM, id=upload_id) > 0


async def discard(session: AsyncSession, upload_id: int) -> bool:
    """Discard an upload. False: there is none, or it is confirmed."""
    return await rows_affected(session, _DISCARD, id=upload_id) > 0


# The lease of a worker that died or froze has expired; a locked row is just being stored.
_FREE = "(status = 'waiting' OR (status = 'importing' AND lease_until < now()))"

_CLAIM = text(f"""
    UPDATE upload SET status = 'importing', attempts = attempts + 1, bytes_read = 0, broke_off = NULL,
        lease_until = now() + make_interval(secs => :lease)
    WHERE id = (SELECT id FROM upload WHERE id = :id AND {_FREE} FOR UPDATE SKIP LOCKED)
    RETURNING attempts
""")  # noqa: S608 - constants of this module


async def claim_import(session: AsyncSession, upload_id: int) -> ImportLease | None:
    """Claim an import. None: there is nothing to import, or another worker is importing it."""
    number = await session.scalar(_CLAIM, {"id": upload_id, "lease": LEASE_S})
    return None if number is None else ImportLease(upload_id, number)


_MINE = "id = :upload_id AND attempts = :number AND status = 'importing'"

_NEXT = text(f"""
    WITH mine AS (
        UPDATE upload SET bytes_read = :read, lease_until = now() + make_interval(secs => :lease)
            WHERE {_MINE} RETURNING id
    )
    SELECT data FROM upload_chunk JOIN mine ON upload_id = mine.id WHERE number = :chunk
""")  # noqa: S608 - as above


async def next_chunk(session: AsyncSession, lease: ImportLease, *, number: int, read: int) -> bytes:
    """Record the bytes read, renew the lease and read a chunk. Empty beyond the end, and once the lease is lost."""
    return await session.scalar(_NEXT, asdict(lease) | {"chunk": number, "read": read, "lease": LEASE_S}) or b""


_LOCK = text(f"SELECT actor FROM upload WHERE {_MINE} FOR UPDATE")  # noqa: S608 - as above
_RELEASE = text(f"UPDATE upload SET status = 'waiting', lease_until = NULL WHERE {_MINE}")  # noqa: S608 - as above


async def lock_import(session: AsyncSession, lease: ImportLease) -> str | None:
    """Lock the upload until the session commits and return its user. None: the lease is lost."""
    actor: str | None = await session.scalar(_LOCK, asdict(lease))
    return actor


async def release_import(session: AsyncSession, lease: ImportLease) -> None:
    await session.execute(_RELEASE, asdict(lease))


_INTERRUPT = text(f"""
    UPDATE upload SET broke_off = :cause, lease_until = now() + make_interval(secs => :lease)
    WHERE {_MINE} AND attempts < :most
""")  # noqa: S608 - as above


async def record_interruption(session: AsyncSession, lease: ImportLease, *, cause: RefusalCode) -> None:
    """Record why an import failed. It is tried again when the lease expires, up to MAX_ATTEMPTS times."""
    fields = {"cause": cause.value, "lease": LEASE_S, "most": MAX_ATTEMPTS}
    if not await rows_affected(session, _INTERRUPT, **asdict(lease), **fields):
        failed = Refusal(RefusalCode.failed_each_time, {"tries": lease.number})
        await fail_import(session, lease, [failed, Refusal(cause)])


_FINISH = text(f"""
    UPDATE upload SET status = 'done', lease_until = NULL, finished_at = now(), bytes_read = size,
        created = :created, updated = :updated, opted_out = :opted_out, rejected = :rejected
    WHERE {_MINE}
""")  # noqa: S608 - as above
_FAILED = """
    UPDATE upload SET status = 'failed', lease_until = NULL, finished_at = now(), refusals = CAST(:refusals AS jsonb)
"""
_FAIL = text(f"{_FAILED} WHERE {_MINE}")
_ADD_REJECTED = text("""
    INSERT INTO upload_row_error (upload_id, line, field, code, params, row)
    VALUES (:id, :line, :field, :code, CAST(:params AS jsonb), :row)
""")
_DROP_FILE = text("DELETE FROM upload_chunk WHERE upload_id = :id")


async def complete_import(session: AsyncSession, lease: ImportLease, imported: ImportOutcome) -> None:
    """Store the result for RESULT_RETENTION_D days and delete the file. Call after `lock_import`."""
    rejected = [
        {"id": lease.upload_id, "line": line, "field": field, "row": row}
        | {"code": refusal.code.value, "params": json.dumps(refusal.params)}
        for line, field, refusal, row in imported.rejected_fields
    ]
    counts = {name: getattr(imported, name) for name in ("created", "updated", "opted_out", "rejected")}
    if rejected:
        await session.execute(_ADD_REJECTED, rejected)
    await session.execute(_FINISH, asdict(lease) | counts)
    await session.execute(_DROP_FILE, {"id": lease.upload_id})


async def fail_import(session: AsyncSession, lease: ImportLease, refusals: Sequence[Refusal]) -> None:
    """Mark an import as failed for good; nothing was stored."""
    if await rows_affected(session, _FAIL, **asdict(lease), refusals=_json(refusals)):
        await session.execute(_DROP_FILE, {"id": lease.upload_id})


_REJECTED = text("""
    SELECT line, field, code, params, row FROM upload_row_error
    WHERE upload_id = :id AND (line, field) > (:line, :field)
    ORDER BY line, field LIMIT :count
""")


async def rejected_fields(
    session: AsyncSession, upload_id: int, *, count: int, after: tuple[int, str] = (0, "")
) -> list[RejectedField]:
    """List rejected fields by line; `after` is line and field of the last one seen."""
    page = {"id": upload_id, "count": count, "line": after[0], "field": after[1]}
    return [_rejected(row) for row in (await session.execute(_REJECTED, page)).mappings()]


_COUNT = text("SELECT count(*) FROM upload_row_error WHERE upload_id = :id")


async def count_rejected_fields(session: AsyncSession, upload_id: int) -> int:
    counted: int = (await session.execute(_COUNT, {"id": upload_id})).scalar_one()
    return counted


# No index: rejected rows of one week, at most 10,000 fields of a file.
_DELETE_ROWS = text("DELETE FROM upload_row_error WHERE position(:phone IN row) > 0")


async def delete_rows_with_phone(session: AsyncSession, phone: str) -> None:
    await session.execute(_DELETE_ROWS, {"phone": phone})


_UNFINISHED = text(f"SELECT id FROM upload WHERE status IN ('waiting', 'importing') AND {_FREE} AND attempts < :most")  # noqa: S608 - as above
_FAIL_EXHAUSTED = text(f"""{_FAILED}
    WHERE id IN (
        SELECT id FROM upload WHERE status = 'importing' AND attempts >= :most AND lease_until < now()
        FOR UPDATE SKIP LOCKED)
    RETURNING id
""")  # noqa: S608 - as above


async def unfinished_imports(session: AsyncSession) -> Sequence[int]:
    """List imports without a worker. Index: upload_open."""
    return (await session.execute(_UNFINISHED, {"most": MAX_ATTEMPTS})).scalars().all()


async def fail_exhausted(session: AsyncSession) -> None:
    """Mark imports as failed after MAX_ATTEMPTS lost workers. Index: upload_open."""
    refusals = _json([Refusal(RefusalCode.never_finished, {"tries": MAX_ATTEMPTS})])
    values = {"most": MAX_ATTEMPTS, "refusals": refusals}
    for upload_id in (await session.execute(_FAIL_EXHAUSTED, values)).scalars().all():
        await session.execute(_DROP_FILE, {"id": upload_id})


# Uploads of one week: no index.
_DELETE_EXPIRED = text("""
    DELETE FROM upload WHERE (status = 'uploaded' AND created_at < now() - make_interval(hours => :hours))
        OR finished_at < now() - make_interval(days => :days)
""")


async def delete_expired(session: AsyncSession) -> None:
    """Delete unconfirmed files and results whose retention has ended, with their rejected rows."""
    await session.execute(_DELETE_EXPIRED, {"hours": UNCONFIRMED_RETENTION_H, "days": RESULT_RETENTION_D})


def _upload(row: RowMapping) -> Upload:
    broke_off = Refusal(RefusalCode(row["broke_off"])) if row["broke_off"] else None
    return msgspec.convert({**row, "broke_off": broke_off, "refusals": row["refusals"] or []}, Upload)


def _rejected(row: RowMapping) -> RejectedField:
    refusal = Refusal(RefusalCode(row["code"]), row["params"])
    return RejectedField(row["line"], row["field"], refusal, row["row"])


def _json(refusals: Sequence[Refusal]) -> str:
    return msgspec.json.encode(refusals).decode()

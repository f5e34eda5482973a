"""Every statement on uploads. All go by the primary keys, unless they say otherwise."""

from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.clients.csv_reader import RejectedField
from mailing.clients.upload.schemas import Status, Try, Upload
from mailing.errors import NotFound

UNCONFIRMED_KEPT_H = 24
RESULT_KEPT_D = 7
MOST_TRIES = 5
LEASE_S = 60

_COLUMNS = ", ".join(Upload.__struct_fields__)

# Files that still lie in the database. There are as many as the limits let be: no index.
_LYING = text("""
    SELECT count(*) FILTER (WHERE actor = :actor), coalesce(sum(size) FILTER (WHERE actor = :actor), 0)::bigint,
        count(*), coalesce(sum(size), 0)::bigint
    FROM upload WHERE status IN ('uploaded', 'waiting', 'importing')
""")


class Lying(Struct):
    """How many files wait or are being imported, and their bytes: of one user, and of all."""

    own: int
    own_bytes: int
    all: int
    all_bytes: int


async def lying(session: AsyncSession, actor: str) -> Lying:
    return Lying(*(await session.execute(_LYING, {"actor": actor})).one())


_ADD = text("INSERT INTO upload (name, actor, size) VALUES (:name, :actor, :size) RETURNING id")
_ADD_PIECE = text("INSERT INTO upload_chunk (upload_id, number, data) VALUES (:upload_id, :number, :data)")


async def add_upload(session: AsyncSession, *, name: str, actor: str, size: int) -> int:
    added: int = (await session.execute(_ADD, {"name": name, "actor": actor, "size": size})).scalar_one()
    return added


async def add_piece(session: AsyncSession, upload_id: int, *, number: int, data: bytes) -> None:
    await session.execute(_ADD_PIECE, {"upload_id": upload_id, "number": number, "data": data})


_GET = text(f"SELECT {_COLUMNS} FROM upload WHERE id = :id")  # noqa: S608 - the columns are ours
_NEWEST = text(f"""
    SELECT {_COLUMNS} FROM upload ORDER BY (status = 'uploaded' AND actor = :actor) DESC, id DESC LIMIT :count
""")  # noqa: S608 - as above
_PIECE = text("SELECT data FROM upload_chunk WHERE upload_id = :upload_id AND number = :number")


async def get_upload(session: AsyncSession, upload_id: int) -> Upload:
    row = (await session.execute(_GET, {"id": upload_id})).mappings().first()
    if row is None:
        raise NotFound(f"There is no upload {upload_id}: it was discarded, or its result was kept long enough.")
    return _upload(row)


async def newest_uploads(session: AsyncSession, *, count: int, actor: str) -> list[Upload]:
    """Those come first for which `actor` has to decide something."""
    return [_upload(row) for row in (await session.execute(_NEWEST, {"count": count, "actor": actor})).mappings()]


async def piece_of_upload(session: AsyncSession, upload_id: int, *, number: int) -> bytes:
    """Empty beyond the end."""
    return await session.scalar(_PIECE, {"upload_id": upload_id, "number": number}) or b""


_CONFIRM = text("UPDATE upload SET status = 'waiting' WHERE id = :id AND status = 'uploaded' RETURNING id")
_DISCARD = text("DELETE FROM upload WHERE id = :id AND status = 'uploaded' RETURNING id")


async def confirm(session: AsyncSession, upload_id: int) -> bool:
    """False where that was done before."""
    return (await session.execute(_CONFIRM, {"id": upload_id})).first() is not None


async def discard(session: AsyncSession, upload_id: int) -> bool:
    """Whether it was there, and not confirmed."""
    return (await session.execute(_DISCARD, {"id": upload_id})).first() is not None


# A worker that died or froze has let its lease run out; a row that somebody holds is being stored just now.
_FREE = "(status = 'waiting' OR (status = 'importing' AND lease_until < now()))"

_BEGIN = text(f"""
    UPDATE upload SET status = 'importing', attempts = attempts + 1, bytes_read = 0, broke_off = NULL,
        lease_until = now() + make_interval(secs => :lease)
    WHERE id = (SELECT id FROM upload WHERE id = :id AND {_FREE} FOR UPDATE SKIP LOCKED)
    RETURNING attempts
""")  # noqa: S608 - constants of this module


async def begin(session: AsyncSession, upload_id: int) -> Try | None:
    """None where there is nothing to import, or somebody is at it."""
    number = await session.scalar(_BEGIN, {"id": upload_id, "lease": LEASE_S})
    return None if number is None else Try(upload_id, number)


_MINE = "id = :id AND attempts = :number AND status = 'importing'"

_NEXT = text(f"""
    WITH mine AS (
        UPDATE upload SET bytes_read = :read, lease_until = now() + make_interval(secs => :lease)
            WHERE {_MINE} RETURNING id
    )
    SELECT data FROM upload_chunk JOIN mine ON upload_id = mine.id WHERE number = :piece
""")  # noqa: S608 - as above


async def next_piece(session: AsyncSession, mine: Try, *, piece: int, read: int) -> bytes:
    """Notes how much was read and renews the lease. Empty beyond the end, and where the upload was taken over."""
    return await session.scalar(_NEXT, _of(mine) | {"piece": piece, "read": read, "lease": LEASE_S}) or b""


_HOLD = text(f"SELECT actor FROM upload WHERE {_MINE} FOR UPDATE")  # noqa: S608 - as above
_GIVE_BACK = text(f"UPDATE upload SET status = 'waiting', lease_until = NULL WHERE {_MINE}")  # noqa: S608 - as above


async def hold(session: AsyncSession, mine: Try) -> str | None:
    """Nobody takes the upload over until the session commits. Returns whose upload it is; None where it was taken."""
    actor: str | None = await session.scalar(_HOLD, _of(mine))
    return actor


async def give_back(session: AsyncSession, mine: Try) -> None:
    await session.execute(_GIVE_BACK, _of(mine))


_BREAK_OFF = text(f"""
    UPDATE upload SET broke_off = :cause, lease_until = now() + make_interval(secs => :lease)
    WHERE {_MINE} AND attempts < :most RETURNING id
""")  # noqa: S608 - as above


async def break_off(session: AsyncSession, mine: Try, *, cause: str) -> None:
    """Nothing was stored. Somebody begins again when the lease runs out, unless it was tried often enough."""
    told = {"cause": cause, "lease": LEASE_S, "most": MOST_TRIES}
    if (await session.execute(_BREAK_OFF, _of(mine) | told)).first() is None:
        await fail(session, mine, error=f"was begun {mine.number} times and broke off each time\n{cause}")


_FINISH = text(f"""
    UPDATE upload SET status = 'done', lease_until = NULL, finished_at = now(), bytes_read = size,
        created = :created, updated = :updated, rejected = :rejected
    WHERE {_MINE}
""")  # noqa: S608 - as above
_FAIL = text(f"""
    UPDATE upload SET status = 'failed', lease_until = NULL, finished_at = now(), error = :error WHERE {_MINE}
    RETURNING id
""")  # noqa: S608 - as above
_REFUSE = text("""
    INSERT INTO upload_row_error (upload_id, line, field, message, row)
    SELECT :id, r.* FROM unnest(CAST(:lines AS bigint[]), CAST(:fields AS text[]), CAST(:messages AS text[]),
        CAST(:rows AS text[])) AS r (line, field, message, row)
""")
_DROP_FILE = text("DELETE FROM upload_chunk WHERE upload_id = :id")


async def finish(session: AsyncSession, mine: Try, refusals: Sequence[RejectedField], **counts: int) -> None:
    """`counts`: created, updated, rejected. Call after `hold`; the file goes, its result stays for RESULT_KEPT_D."""
    lines, fields, messages, rows = zip(*refusals, strict=True) if refusals else ((), (), (), ())
    given = {"lines": list(lines), "fields": list(fields), "messages": list(messages), "rows": list(rows)}
    await session.execute(_REFUSE, {"id": mine.upload_id} | given)
    await session.execute(_FINISH, _of(mine) | counts)
    await session.execute(_DROP_FILE, {"id": mine.upload_id})


async def fail(session: AsyncSession, mine: Try, *, error: str) -> None:
    """Nothing was imported, and trying again would not help."""
    if (await session.execute(_FAIL, _of(mine) | {"error": error})).first():
        await session.execute(_DROP_FILE, {"id": mine.upload_id})


_REFUSALS = text("""
    SELECT line, field, message, row FROM upload_row_error WHERE upload_id = :id AND (line, field) > (:line, :field)
    ORDER BY line, field LIMIT :count
""")


async def refusals_of(
    session: AsyncSession, upload_id: int, *, count: int, after: tuple[int, str] = (0, "")
) -> list[RejectedField]:
    """In the order of lines; `after` is line and field of the last one seen."""
    page = {"id": upload_id, "count": count, "line": after[0], "field": after[1]}
    return [RejectedField(*row) for row in await session.execute(_REFUSALS, page)]


_COUNT = text("SELECT count(*) FROM upload_row_error WHERE upload_id = :id")


async def count_refusals(session: AsyncSession, upload_id: int) -> int:
    """Bad fields that are kept, of bad rows."""
    counted: int = (await session.execute(_COUNT, {"id": upload_id})).scalar_one()
    return counted


# No index: bad rows are a week's, and at most 10,000 bad fields of a file.
_FORGET_ROWS = text("DELETE FROM upload_row_error WHERE position(:phone IN row) > 0")


async def forget_rows(session: AsyncSession, phone: str) -> None:
    """Bad rows that hold the phone, whoever's they are."""
    await session.execute(_FORGET_ROWS, {"phone": phone})


_LEFT = text(f"SELECT id FROM upload WHERE status IN ('waiting', 'importing') AND {_FREE} AND attempts < :most")  # noqa: S608 - as above
_GIVE_UP = text("""
    UPDATE upload SET status = 'failed', lease_until = NULL, finished_at = now(),
        error = 'was begun ' || attempts || ' times and never came to its end; the worker''s log says why'
    WHERE id IN (
        SELECT id FROM upload WHERE status = 'importing' AND attempts >= :most AND lease_until < now()
        FOR UPDATE SKIP LOCKED)
    RETURNING id
""")


async def left_undone(session: AsyncSession) -> Sequence[int]:
    """Index: upload_open."""
    return (await session.execute(_LEFT, {"most": MOST_TRIES})).scalars().all()


async def give_up(session: AsyncSession) -> None:
    """What always ends its worker is not begun for ever. Index: upload_open."""
    for upload_id in (await session.execute(_GIVE_UP, {"most": MOST_TRIES})).scalars().all():
        await session.execute(_DROP_FILE, {"id": upload_id})


# There are as many uploads as people made in a week: no index.
_FORGET = text("""
    DELETE FROM upload WHERE (status = 'uploaded' AND created_at < now() - make_interval(hours => :hours))
        OR finished_at < now() - make_interval(days => :days)
""")


async def forget_old(session: AsyncSession) -> None:
    """Files nobody confirmed and results that were kept long enough, with the rows in them."""
    await session.execute(_FORGET, {"hours": UNCONFIRMED_KEPT_H, "days": RESULT_KEPT_D})


def _upload(row: RowMapping) -> Upload:
    return Upload(**dict(row) | {"status": Status(row["status"])})


def _of(mine: Try) -> dict[str, int]:
    return {"id": mine.upload_id, "number": mine.number}

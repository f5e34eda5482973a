"""Statements on `client`. Locks are taken in one order everywhere: clients by phone, messages by id, counters.

A change that affects messages locks its client first, so a change, a DELETE and an import of the same client wait for
each other instead of deadlocking.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import IO, Any

from advanced_alchemy.repository import SQLAlchemyAsyncRepository
from msgspec import UNSET, Struct, UnsetType
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.clients import event_details
from mailing.clients.models import Client
from mailing.clients.phone import operator_code_of
from mailing.clients.schemas import ClientIn, ClientOut, ClientPatch
from mailing.clients.search import COLUMNS, Search, list_clients
from mailing.database.connections import fail_if_lost
from mailing.database.engine import raw_connection
from mailing.database.read_pool import ReadPool
from mailing.errors import Conflict, FieldError, NotFound
from mailing.events import record_event
from mailing.messages.cancellation import cancel_of_client
from mailing.messages.rescheduling import invalidate_windows_of_client, invalidate_windows_of_moved_clients
from mailing.web.validation import given_fields

# By the primary key, and by client_phone_unique.
_READ = f"SELECT {COLUMNS} FROM client WHERE id = $1"  # noqa: S608 - its own constant
_GET = text(f"SELECT {COLUMNS} FROM client WHERE id = :id")  # noqa: S608 - its own constant
_WITH_PHONE = text(f"SELECT {COLUMNS} FROM client WHERE phone = :phone")  # noqa: S608 - its own constant


async def read_client(reads: ReadPool, client_id: int) -> ClientOut:
    row = await reads.row(_READ, client_id)
    if row is None:
        raise _missing(client_id)
    return ClientOut(**row)


async def get_client(session: AsyncSession, client_id: int) -> ClientOut:
    """Read a client, as `read_client`, within a session."""
    row = (await session.execute(_GET, {"id": client_id})).mappings().first()
    if row is None:
        raise _missing(client_id)
    return ClientOut(**row)


async def client_with_phone(session: AsyncSession, phone: str) -> ClientOut | None:
    row = (await session.execute(_WITH_PHONE, {"phone": phone})).mappings().first()
    return ClientOut(**row) if row else None


class ClientRepository(SQLAlchemyAsyncRepository[Client]):
    """Changes to one client, and their effect on its messages."""

    model_type = Client
    session: AsyncSession

    def __init__(self, session: AsyncSession) -> None:
        super().__init__(session=session, auto_refresh=False, wrap_exceptions=False)

    async def create(self, data: ClientIn, *, by: str) -> ClientOut:
        created = await self._stored(Client(**_all_fields(data)))
        await record_event(
            self.session, "client.created", by=by, client_id=created.id, **event_details.details(created)
        )
        return created

    async def replace(self, client_id: int, data: ClientIn, *, by: str) -> ClientOut:
        return await self._change(await self._get_for_update(client_id), _all_fields(data), by=by)

    async def change(self, client_id: int, data: ClientPatch, *, by: str) -> ClientOut:
        client = await self._get_for_update(client_id)
        return await self._change(client, _given_fields(data, of=client), by=by)

    async def remove(self, client_id: int, *, by: str) -> None:
        """Delete a client. Unsent messages are cancelled; sent ones stay, with the phone they went to."""
        client = await self._get_for_update(client_id)
        stopped = await cancel_of_client(self.session, client_id, reason="the client was deleted")
        await self.session.delete(client)
        await record_event(
            self.session,
            "client.deleted",
            by=by,
            client_id=client_id,
            stopped=stopped,
            **event_details.final_details(_out(client)),
        )

    async def _get_for_update(self, client_id: int) -> Client:
        client = await self.get_one_or_none(Client.id == client_id, with_for_update=True)
        if client is None:
            raise _missing(client_id)
        return client

    async def _change(self, client: Client, values: Mapping[str, Any], *, by: str) -> ClientOut:
        old = _out(client)
        moved = values.get("timezone", client.timezone) != client.timezone
        opts = values.get("opted_out", client.opted_out) != client.opted_out
        for name, value in values.items():
            setattr(client, name, value)
        changed = await self._stored(client)
        difference = event_details.difference(old, changed)
        if difference["fields"]:
            await record_event(self.session, "client.changed", by=by, client_id=client.id, **difference)
        if opts:
            await self._record_opt_out(client, by=by)
        if moved:
            await invalidate_windows_of_client(self.session, client.id)
        return changed

    async def _record_opt_out(self, client: Client, *, by: str) -> None:
        """Record that the client opted out or in. Opting out cancels its messages; opting in does not restore them."""
        if not client.opted_out:
            await record_event(self.session, "client.opted_in", by=by, client_id=client.id)
            return
        stopped = await cancel_of_client(self.session, client.id, reason="the client opted out")
        await record_event(self.session, "client.opted_out", by=by, client_id=client.id, stopped=stopped)

    async def _stored(self, client: Client) -> ClientOut:
        try:
            await self.add(client)
        except IntegrityError as error:
            if "client_not_erased" in str(error.orig):
                raise _erased() from None
            if "client_phone_unique" not in str(error.orig):
                raise
            raise PhoneTaken from None
        return _out(client)


def _out(client: Client) -> ClientOut:
    return ClientOut(*(getattr(client, name) for name in ClientOut.__struct_fields__))


def _all_fields(data: ClientIn) -> dict[str, Any]:
    return dict(given_fields(data)) | {"operator_code": data.operator_code or operator_code_of(data.phone)}


def _given_fields(data: ClientPatch, *, of: Client) -> dict[str, Any]:
    """Return the given fields. An operator code taken from the old phone follows the new one; a given one stays."""
    values = dict(given_fields(data))
    follows = of.operator_code == operator_code_of(of.phone)
    if data.operator_code is None or (data.operator_code is UNSET and follows):
        values["operator_code"] = operator_code_of(values.get("phone", of.phone))
    return values


def _missing(client_id: int) -> NotFound:
    return NotFound(f"There is no client {client_id}.")


class PhoneTaken(Conflict):
    """The phone belongs to another client. `name_phone_owner` finds it, because the failed transaction can't read."""

    def __init__(self, owner_id: int | None = None) -> None:
        message = "belongs to another client" + (f": /mailing/api/clients/{owner_id}/" if owner_id else "")
        super().__init__("Another client has this phone.", FieldError("phone", message))
        self.owner_id = owner_id


@asynccontextmanager
async def name_phone_owner(reads: ReadPool, phone: str | UnsetType) -> AsyncIterator[None]:
    """Add the owner's id to PhoneTaken raised within: a query by phone would put the phone into proxies' logs.

    A caller who may write may read, so this discloses nothing.
    """
    try:
        yield
    except PhoneTaken:
        found = await list_clients(reads, Search(phone=str(phone)), after=0, limit=1)
        raise PhoneTaken(found[0].id if found else None) from None


ERASED = "belongs to a person who was erased; `mailing privacy allow` allows the phone again"


def _erased() -> Conflict:
    return Conflict("The person with this phone was erased and can't be stored again.", FieldError("phone", ERASED))


_EXPORTED = select(Client.id, Client.phone, Client.operator_code, Client.tag, Client.timezone).order_by(Client.id)


class ExportedClient(Struct, frozen=True):
    id: int
    phone: str
    operator_code: str
    tag: str | None
    timezone: str


async def export_page(session: AsyncSession, *, after: int, limit: int) -> Sequence[ExportedClient]:
    """Read a page by id. Index: the primary key."""
    rows = await session.execute(_EXPORTED.where(Client.id > after).limit(limit))
    return [ExportedClient(**row) for row in rows.mappings()]


async def known_phones(session: AsyncSession, phones: Collection[str]) -> set[str]:
    """Return the phones that belong to a client. Index: client_phone_unique."""
    return set((await session.execute(select(Client.phone).where(Client.phone.in_(phones)))).scalars())


STAGED_COLUMNS = ("line", "phone", "operator_code", "tag", "timezone")

_STAGE = text("""
    CREATE TEMPORARY TABLE staged_client (line bigint, phone text, operator_code text, tag text, timezone text)
    ON COMMIT DROP
""")
_STAGE_MOVED = text("CREATE TEMPORARY TABLE moved_client (id bigint) ON COMMIT DROP")
# An erasure that starts now waits for the import, and the import waits for one in progress: none is missed.
_WAIT_FOR_ERASURES = text("LOCK TABLE client IN ROW EXCLUSIVE MODE")
# Without any erasure no phone is hashed; otherwise 5 s for 1,000,000 rows.
_REMOVE_ERASED = text("""
    DELETE FROM staged_client s USING erasure_key k, erasure e
    WHERE EXISTS (SELECT FROM erasure WHERE revoked_at IS NULL)
      AND e.hash = erasure_hash(s.phone, k.key) AND e.revoked_at IS NULL
    RETURNING s.line
""")
_UNSTAGE = text("DROP TABLE staged_client, moved_client")

# New phones, the last row of each. Sorted by phone: two imports never deadlock, and the unique index grows at one end.
# An existing phone uses up no id.
_INSERT_NEW = """
    INSERT INTO client (phone, operator_code, tag, timezone)
    SELECT DISTINCT ON (s.phone) s.phone, s.operator_code, s.tag, s.timezone FROM staged_client s
    WHERE NOT EXISTS (SELECT FROM client c WHERE c.phone = s.phone)
    ORDER BY s.phone, s.line DESC
    ON CONFLICT (phone) DO NOTHING
"""

# Existing phones whose last row differs; opt-outs stay. The lock is taken before the time zones are compared, so a
# concurrent change is not missed.
_UPDATE_CHANGED = """
    WITH changed AS (
        UPDATE client c SET operator_code = n.operator_code, tag = n.tag, timezone = n.timezone, updated_at = now()
        FROM (
            SELECT o.id, o.timezone AS old_timezone, o.operator_code AS old_code, o.tag AS old_tag, s.timezone,
                   CASE WHEN $1 THEN s.operator_code ELSE o.operator_code END AS operator_code,
                   CASE WHEN $2 THEN s.tag ELSE o.tag END AS tag
            FROM (SELECT DISTINCT ON (phone) * FROM staged_client ORDER BY phone, line DESC) s
            JOIN client o ON o.phone = s.phone
            WHERE o.timezone <> s.timezone OR ($1 AND o.operator_code <> s.operator_code)
               OR ($2 AND o.tag IS DISTINCT FROM s.tag)
            ORDER BY o.phone FOR UPDATE OF o
        ) AS n
        WHERE c.id = n.id
        RETURNING c.id, c.operator_code, c.tag, c.timezone, n.old_code, n.old_tag, n.old_timezone,
            n.old_timezone <> c.timezone AS moved
    ), recorded AS (
        INSERT INTO event (kind, actor, client_id, detail)
        SELECT 'client.changed', $3::text, id, (
            SELECT jsonb_build_object('import', true, 'fields', jsonb_agg(name), 'old', jsonb_object_agg(name, old),
                'new', jsonb_object_agg(name, new))
            FROM (VALUES ('operator_code', old_code, operator_code), ('tag', old_tag, tag),
                ('timezone', old_timezone, timezone)) AS field (name, old, new)
            WHERE old IS DISTINCT FROM new)
        FROM changed
    )
    INSERT INTO moved_client SELECT id FROM changed WHERE moved
"""
_STATEMENT_TIMEOUT_S = 900  # a file of the maximum size takes a tenth of it


class StoredRows(Struct, frozen=True):
    """The number of new clients, and the lines of persons who were erased."""

    created: int
    erased: list[int]


async def import_staged(session: AsyncSession, rows: IO[bytes], *, columns: Collection[str], by: str) -> StoredRows:
    """Store rows of STAGED_COLUMNS in COPY's text format.

    Of the optional columns only those named in `columns` change existing clients. A million new clients take 20 s. The
    same statement records an event for each changed client; a new one has the import's event (decision 18).
    """
    for statement in (_WAIT_FOR_ERASURES, _STAGE, _STAGE_MOVED):
        await session.execute(statement)
    connection = await raw_connection(session)
    copy = connection.copy_to_table("staged_client", source=rows, columns=STAGED_COLUMNS, timeout=_STATEMENT_TIMEOUT_S)
    copied = await fail_if_lost(connection, copy)
    erased = sorted((await session.execute(_REMOVE_ERASED)).scalars())
    created = _rows(await connection.execute(_INSERT_NEW, timeout=_STATEMENT_TIMEOUT_S))
    if created < _rows(copied) - len(erased):
        given = "operator_code" in columns, "tag" in columns
        if _rows(await connection.execute(_UPDATE_CHANGED, *given, by, timeout=_STATEMENT_TIMEOUT_S)):
            await invalidate_windows_of_moved_clients(session, timeout_s=_STATEMENT_TIMEOUT_S)
    await session.execute(_UNSTAGE)
    return StoredRows(created, erased)


def _rows(tag: str) -> int:
    """Return the number of rows from a command tag such as `INSERT 0 1000`."""
    return int(tag.rpartition(" ")[2])

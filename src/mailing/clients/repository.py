"""Statements on `client`. Locks are taken in one order everywhere: clients by phone, messages by id, counters.

A change that affects messages locks its client first, so a change, a DELETE and an import of the same client wait for
each other instead of deadlocking.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from advanced_alchemy.repository import SQLAlchemyAsyncRepository
from msgspec import UNSET, UnsetType
from msgspec.structs import replace
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.clients.models import Client
from mailing.clients.phone import operator_code_of
from mailing.clients.schemas import ClientIn, ClientOut, ClientPatch
from mailing.clients.search import COLUMNS, Search, list_clients
from mailing.clients.suppression import attribute_opt_outs, suppression_of
from mailing.database.read_pool import ReadPool
from mailing.database.rows import first_as, records_as
from mailing.errors import Conflict, NotFound
from mailing.events import difference, record_event
from mailing.messages.cancellation import cancel_of_client
from mailing.messages.rescheduling import invalidate_windows_of_client
from mailing.reasons.codes import ReasonCode
from mailing.reasons.refusals import RefusalCode, refused_field
from mailing.web.validation import given_fields

# By the primary key, and by client_phone_unique.
_READ = f"SELECT {COLUMNS} FROM client WHERE id = $1"  # noqa: S608 - its own constant
_WITH_PHONE = text(f"SELECT {COLUMNS} FROM client WHERE phone = :phone")  # noqa: S608 - its own constant


async def read_client(reads: ReadPool, client_id: int) -> ClientOut:
    found = records_as(ClientOut, await reads.rows(_READ, client_id))
    if not found:
        raise _missing(client_id)
    return found[0]


async def client_with_phone(session: AsyncSession, phone: str) -> ClientOut | None:
    return first_as(ClientOut, await session.execute(_WITH_PHONE, {"phone": phone}))


class ClientRepository(SQLAlchemyAsyncRepository[Client]):
    model_type = Client
    session: AsyncSession

    def __init__(self, session: AsyncSession) -> None:
        super().__init__(session=session, auto_refresh=False, wrap_exceptions=False)

    async def create(self, data: ClientIn, *, by: str) -> ClientOut:
        """Create a client. A phone on the list of opt-outs is opted out from the start, whatever `data` says."""
        if data.opted_out is True:
            await attribute_opt_outs(self.session, by=by, reason=ReasonCode.added_opted_out)
        created = await self._stored(Client(**_all_fields(data)), has_new_phone=True)
        await record_event(self.session, "client.created", by=by, client_id=created.id, **_details(created))
        if created.opted_out:
            await self._record_opt_out(created, by=by, stopped=0, asked=data.opted_out is True)
        return created

    async def lock(self, client_id: int) -> ClientOut:
        """Read a client that nobody else changes until the transaction ends."""
        return _out(await self._get_for_update(client_id))

    async def replace(self, client_id: int, data: ClientIn, *, by: str) -> ClientOut:
        return await self._change(await self._get_for_update(client_id), _all_fields(data), by=by)

    async def change(self, client_id: int, data: ClientPatch, *, by: str) -> ClientOut:
        client = await self._get_for_update(client_id)
        return await self._change(client, _given_fields(data, of=client), by=by)

    async def remove(self, client_id: int, *, by: str) -> None:
        """Delete a client. Unsent messages are cancelled; sent ones stay, with the phone they went to."""
        client = await self._get_for_update(client_id)
        stopped = await cancel_of_client(self.session, client_id, reason=ReasonCode.client_deleted)
        await self.session.delete(client)
        await record_event(
            self.session,
            "client.deleted",
            by=by,
            client_id=client_id,
            stopped=stopped,
            **_details(_out(client)),
            created_at=client.created_at.isoformat(),  # its history still finds the import that created it
        )

    async def _get_for_update(self, client_id: int) -> Client:
        client = await self.get_one_or_none(Client.id == client_id, with_for_update=True)
        if client is None:
            raise _missing(client_id)
        return client

    async def _change(self, client: Client, values: Mapping[str, Any], *, by: str) -> ClientOut:
        old = _out(client)
        moved = values.get("timezone", client.timezone) != client.timezone
        renumbered = values.get("phone", client.phone) != client.phone
        if values.get("opted_out", client.opted_out):
            reason = ReasonCode.phone_taken_over if old.opted_out else ReasonCode.client_opted_out
            await attribute_opt_outs(self.session, by=by, reason=reason)
        for name, value in values.items():
            setattr(client, name, value)
        changed = await self._stored(client, has_new_phone=renumbered)
        change = difference(*({"phone": each.phone} | _details(each) for each in (old, changed)), hidden="phone")
        if change["fields"]:
            await record_event(self.session, "client.changed", by=by, client_id=client.id, **change)
        if changed.opted_out and not old.opted_out:
            stopped = await cancel_of_client(self.session, client.id, reason=ReasonCode.client_opted_out)
            await self._record_opt_out(changed, by=by, stopped=stopped, asked=values.get("opted_out") is True)
        elif old.opted_out and not changed.opted_out:
            await record_event(self.session, "client.opted_in", by=by, client_id=client.id)
        if moved:
            await invalidate_windows_of_client(self.session, client.id)
        return changed

    async def _record_opt_out(self, client: ClientOut, *, by: str, stopped: int, asked: bool) -> None:
        """Add the entry of the list, which may be older than the client, unless the caller asked for the opt-out."""
        detail: dict[str, Any] = {"stopped": stopped}
        entry = None if asked else await suppression_of(self.session, client.phone)
        if entry:
            detail["listed"] = {"since": entry.since.isoformat(), "by": entry.actor}
            detail |= {"reason_code": entry.reason_code, "reason_params": entry.reason_params}
        await record_event(self.session, "client.opted_out", by=by, client_id=client.id, **detail)

    async def _stored(self, client: Client, *, has_new_phone: bool) -> ClientOut:
        try:
            await self.add(client)
            if has_new_phone:  # a trigger opts out a client whose phone is on the list
                await self.session.refresh(client, ["opted_out"])
        except IntegrityError as error:
            if "client_not_erased" in str(error.orig):
                erased = refused_field("phone", RefusalCode.phone_erased)
                raise Conflict("The person with this phone was erased and can't be stored again.", erased) from None
            if "client_phone_unique" not in str(error.orig):
                raise
            raise PhoneTaken from None
        return _out(client)


def _out(client: Client) -> ClientOut:
    return ClientOut(*(getattr(client, name) for name in ClientOut.__struct_fields__))


def _details(client: ClientOut) -> dict[str, Any]:
    """Return what an event records of a client. Opting out and in are events of their own."""
    return {name: getattr(client, name) for name in ("operator_code", "tag", "timezone")}


def _all_fields(data: ClientIn) -> dict[str, Any]:
    return dict(given_fields(data)) | {"operator_code": data.operator_code or operator_code_of(data.phone)}


def _given_fields(data: ClientPatch, *, of: Client) -> dict[str, Any]:
    """Let an operator code that was taken from the old phone follow the new one; a given code stays."""
    values = dict(given_fields(data))
    follows = of.operator_code == operator_code_of(of.phone)
    if data.operator_code is None or (data.operator_code is UNSET and follows):
        values["operator_code"] = operator_code_of(values.get("phone", of.phone))
    return values


def _missing(client_id: int) -> NotFound:
    return NotFound("There is no client %(id)s.", id=client_id)


class PhoneTaken(Conflict):
    """The phone belongs to another client. `name_phone_owner` finds it, because the failed transaction can't read."""

    def __init__(self, owner_id: int | None = None) -> None:
        taken = refused_field("phone", RefusalCode.phone_taken)
        if owner_id:
            taken = replace(taken, message=f"{taken.message}: /mailing/api/clients/{owner_id}/")
        super().__init__("Another client has this phone.", taken)
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

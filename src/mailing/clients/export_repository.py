"""Read clients page by page, for an export."""

from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.clients.models import Client
from mailing.database.rows import all_as

_EXPORTED_COLUMNS = (Client.id, Client.phone, Client.operator_code, Client.tag, Client.timezone, Client.opted_out)
_EXPORTED = select(*_EXPORTED_COLUMNS).order_by(Client.id)


class ExportedClient(Struct, frozen=True):
    id: int
    phone: str
    operator_code: str
    tag: str | None
    timezone: str
    opted_out: bool


async def export_page(session: AsyncSession, *, after: int, limit: int) -> Sequence[ExportedClient]:
    """Read a page by id. Index: the primary key."""
    rows = await session.execute(_EXPORTED.where(Client.id > after).limit(limit))
    return all_as(ExportedClient, rows)

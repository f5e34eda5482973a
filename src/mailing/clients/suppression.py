"""The list of phones that opted out. Triggers keep it in step with `client.opted_out`; an entry survives the client."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct, convert
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.engine import fetch_long
from mailing.database.rows import one_as
from mailing.reasons.codes import Fact, Reason, ReasonCode

# By the primary key.
_GET = text("""
    SELECT s.since, s.actor, s.reason_code, s.reason_params FROM suppression s
    JOIN erasure_key k ON s.phone_hash = erasure_hash(:phone, k.key)
""")
_ATTRIBUTE = text("""
    SELECT set_config('mailing.actor', :actor, true), set_config('mailing.reason_code', :code, true),
        set_config('mailing.reason_params', :params, true)
""")


class Suppression(Struct, frozen=True):
    since: datetime
    actor: str
    reason_code: ReasonCode
    reason_params: Mapping[str, Fact] | None

    @property
    def reason(self) -> Reason:
        return Reason(self.reason_code, self.reason_params or {})


async def suppression_of(session: AsyncSession, phone: str) -> Suppression | None:
    row = (await session.execute(_GET, {"phone": phone})).mappings().first()
    return convert(row, Suppression) if row else None


async def attribute_opt_outs(session: AsyncSession, *, by: str, reason: ReasonCode, **params: Fact) -> None:
    """Set the actor and reason of the entries that are added until the commit. The parameters hold no phone."""
    values = {"actor": by, "code": reason.value, "params": json.dumps(params) if params else ""}
    await session.execute(_ATTRIBUTE, values)


class OptOuts(Struct, frozen=True):
    """The clients that were not opted out before, and the number of phones that were not on the list."""

    clients: Sequence[int]
    added: int


_LOCK = text("SELECT lock_for_suppression()")
# By client_phone_unique and the primary key.
_OPT_OUT = text("SELECT o.clients, o.added FROM opt_out(ARRAY[CAST(:phone AS text)]) o")


async def opt_out_phone(session: AsyncSession, phone: str, *, has_client: bool) -> OptOuts:
    """Without a client, wait for transactions that store clients: one may be about to store this phone."""
    if not has_client:
        await session.execute(_LOCK)
    return one_as(OptOuts, await session.execute(_OPT_OUT, {"phone": phone}))


# 1,000,000 phones: 10 s to hash them twice.
_OPT_OUT_STAGED = """
    SELECT o.clients, o.added FROM opt_out(ARRAY(
        SELECT DISTINCT phone FROM staged_client WHERE opted_out ORDER BY phone)) o
"""


async def opt_out_staged(session: AsyncSession) -> OptOuts:
    """Opt out the phones of `staged_client`, with a client or without. Lock their clients first."""
    [row] = await fetch_long(session, _OPT_OUT_STAGED)
    return OptOuts(row["clients"], row["added"])

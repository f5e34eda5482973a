"""Statements that store a validated file: staged by COPY, then a few statements over all its rows.

Clients are locked in the order of their phones, as everywhere: new ones by the INSERT, known ones by the UPDATE. A file
that opts out locks all known ones that it changes before either.
"""

from collections.abc import Collection, Sequence
from typing import IO

from msgspec import Struct
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.clients.models import Client
from mailing.clients.suppression import attribute_opt_outs, opt_out_staged
from mailing.database.connections import fail_if_lost
from mailing.database.engine import (
    LONG_STATEMENT_S,
    analyze_refilled,
    execute_long,
    exempt_from_reachability,
    fetch_long,
    raw_connection,
)
from mailing.messages.cancellation import cancel_of_opted_out_clients
from mailing.messages.rescheduling import invalidate_windows_of_moved_clients
from mailing.reasons.codes import ReasonCode

STAGED_COLUMNS = ("line", "phone", "operator_code", "tag", "timezone", "opted_out")

_STAGE = text("""
    CREATE TEMPORARY TABLE staged_client (line bigint, phone text, operator_code text, tag text, timezone text,
        opted_out boolean) ON COMMIT DROP
""")
_STAGE_MOVED = text("CREATE TEMPORARY TABLE moved_client (id bigint) ON COMMIT DROP")
# An erasure that starts now waits for the import, and the import waits for an erasure in progress, so none is missed.
_WAIT_FOR_ERASURES = text("LOCK TABLE client IN ROW EXCLUSIVE MODE")
# Opt-outs of phones without a client: no other transaction may create such a client meanwhile. It does not wait for a
# long import.
_LOCK_CLIENTS = text("SELECT set_config('lock_timeout', '10s', true), lock_for_suppression()")
_RESET_LOCK_TIMEOUT = text("SET LOCAL lock_timeout TO DEFAULT")
# Without any erasure no phone is hashed; otherwise 5 s for 1,000,000 rows.
_REMOVE_ERASED = text("""
    DELETE FROM staged_client s USING erasure_key k, erasure e
    WHERE EXISTS (SELECT FROM erasure WHERE revoked_at IS NULL)
      AND e.hash = erasure_hash(s.phone, k.key) AND e.revoked_at IS NULL
    RETURNING s.line
""")
# Rows with one phone count as if they were stored one after another: none takes back an opt-out or a time zone.
_MERGE_REPEATED = """
    UPDATE staged_client s SET timezone = coalesce(s.timezone, r.timezone), opted_out = r.opted_out
    FROM (
        SELECT phone, bool_or(opted_out) AS opted_out,
            (array_agg(timezone ORDER BY line DESC) FILTER (WHERE timezone IS NOT NULL))[1] AS timezone
        FROM staged_client GROUP BY phone HAVING count(*) > 1
    ) r
    WHERE s.phone = r.phone
"""
_REMOVE_ZONELESS = """
    DELETE FROM staged_client s
    WHERE s.timezone IS NULL AND NOT s.opted_out AND NOT EXISTS (SELECT FROM client c WHERE c.phone = s.phone)
    RETURNING s.line
"""
_DROP_STAGED = text("DROP TABLE staged_client, moved_client")

# New phones, the last row of each. Sorted by phone: two imports never deadlock, and the unique index grows at one end.
# An existing phone uses up no id.
_INSERT_NEW = """
    INSERT INTO client (phone, operator_code, tag, timezone)
    SELECT DISTINCT ON (s.phone) s.phone, s.operator_code, s.tag, s.timezone FROM staged_client s
    WHERE s.timezone IS NOT NULL AND NOT EXISTS (SELECT FROM client c WHERE c.phone = s.phone)
    ORDER BY s.phone, s.line DESC
    ON CONFLICT (phone) DO NOTHING
"""
# A trigger has opted out those whose phone was on the list before. Index: client_opted_out.
_NEW_OPTED_OUT = "SELECT id FROM client WHERE opted_out AND created_at = now() ORDER BY id"

_LAST_ROWS = "(SELECT DISTINCT ON (phone) * FROM staged_client ORDER BY phone, line DESC) s JOIN client o USING (phone)"
_DIFFERS = """
    o.timezone <> s.timezone OR ($1 AND o.operator_code <> s.operator_code) OR ($2 AND o.tag IS DISTINCT FROM s.tag)
"""
_LOCK_CHANGED = f"""
    SELECT count(*) FROM (
        SELECT FROM {_LAST_ROWS} WHERE (s.opted_out AND NOT o.opted_out) OR {_DIFFERS} ORDER BY phone FOR UPDATE OF o
    ) locked
"""  # noqa: S608 - constants of this module
# Existing phones whose last row differs. The lock is taken before the time zones are compared, so a concurrent change
# is not missed.
_UPDATE_CHANGED = f"""
    WITH changed AS (
        UPDATE client c SET operator_code = n.operator_code, tag = n.tag, timezone = n.timezone, updated_at = now()
        FROM (
            SELECT o.id, o.timezone AS old_timezone, o.operator_code AS old_code, o.tag AS old_tag,
                   coalesce(s.timezone, o.timezone) AS timezone,
                   CASE WHEN $1 THEN s.operator_code ELSE o.operator_code END AS operator_code,
                   CASE WHEN $2 THEN s.tag ELSE o.tag END AS tag
            FROM {_LAST_ROWS} WHERE {_DIFFERS} ORDER BY phone FOR UPDATE OF o
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
"""  # noqa: S608 - constants of this module
_FEW = 1000  # rows
_RECORD_OPT_OUTS = """
    INSERT INTO event (kind, actor, client_id, detail)
    SELECT 'client.opted_out', $2::text, id, jsonb_build_object('import', true, 'listed_before', $3::boolean)
    FROM unnest($1::bigint[]) AS id
"""


class StoredRows(Struct, frozen=True):
    """The numbers of new clients and of opt-outs; the lines of erased persons, and of new phones without a time zone.

    An opt-out is a phone that was not on the list, or a new client whose phone was.
    """

    created: int = 0
    opted_out: int = 0
    erased: Sequence[int] = ()
    zoneless: Sequence[int] = ()


async def import_staged(
    session: AsyncSession, rows: IO[bytes], *, columns: Collection[str], zoneless: bool, by: str
) -> StoredRows:
    """Store rows of STAGED_COLUMNS in COPY's text format. `zoneless`: some have no time zone.

    Of the optional columns only those named in `columns` change existing clients. A million new clients take 20 s. The
    same statement records an event for each changed client; a new one has the import's event (decision 18).
    """
    await exempt_from_reachability(session)
    for statement in (_LOCK_CLIENTS, _RESET_LOCK_TIMEOUT) if zoneless else (_WAIT_FOR_ERASURES,):
        await session.execute(statement)
    for statement in (_STAGE, _STAGE_MOVED):
        await session.execute(statement)
    connection = await raw_connection(session)
    copy = connection.copy_to_table("staged_client", source=rows, columns=STAGED_COLUMNS, timeout=LONG_STATEMENT_S)
    copied: str = await fail_if_lost(connection, copy)
    erased = sorted((await session.execute(_REMOVE_ERASED)).scalars())
    opts_out = "opted_out" in columns
    without_zone = await _merge(session) if opts_out else []
    left = int(copied.rpartition(" ")[2]) - len(erased) - len(without_zone)
    given = "operator_code" in columns, "tag" in columns
    created = await execute_long(session, _INSERT_NEW)
    if left > _FEW:
        await analyze_refilled(session)
    opted_out = await _record_new_opted_out(session, by=by) if created else 0
    if created < left:
        if opts_out:
            await execute_long(session, _LOCK_CHANGED, *given)
        moved = await execute_long(session, _UPDATE_CHANGED, *given, by)
        if moved:
            await invalidate_windows_of_moved_clients(session)
    if opts_out:
        opted_out += await _opt_out(session, by=by)
    await session.execute(_DROP_STAGED)
    return StoredRows(created, opted_out, erased, without_zone)


async def _merge(session: AsyncSession) -> list[int]:
    """Merge rows with one phone. Return the lines that have no time zone, which a new client needs."""
    await execute_long(session, _MERGE_REPEATED)
    return sorted(row["line"] for row in await fetch_long(session, _REMOVE_ZONELESS))


async def _record_new_opted_out(session: AsyncSession, *, by: str) -> int:
    ids = [row["id"] for row in await fetch_long(session, _NEW_OPTED_OUT)]
    return await execute_long(session, _RECORD_OPT_OUTS, ids, by, True)


async def _opt_out(session: AsyncSession, *, by: str) -> int:
    """Opt out the phones that the file names. Return how many were not on the list."""
    await attribute_opt_outs(session, by=by, reason=ReasonCode.imported)
    opted = await opt_out_staged(session)
    if opted.clients:
        await execute_long(session, _RECORD_OPT_OUTS, opted.clients, by, False)
        await cancel_of_opted_out_clients(session, opted.clients)
    return opted.added


async def known_phones(session: AsyncSession, phones: Collection[str]) -> set[str]:
    """Return the phones that belong to a client. Index: client_phone_unique."""
    return set((await session.execute(select(Client.phone).where(Client.phone.in_(phones)))).scalars())

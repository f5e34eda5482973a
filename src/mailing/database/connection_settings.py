"""Settings that a connection of either driver has, whatever the server, the database or the role say.

The first statements on each connection set them. They are not startup parameters, because PgBouncer refuses or drops
those. In its transaction mode nothing can be set for a connection: there the role must have the settings, and the first
statement checks that.
"""

from mailing.database.address import Address
from mailing.database.connections import IDLE_IN_TRANSACTION_S, KEEPALIVE, UNACKED_TIMEOUT_S

# How long a statement may take, with its waits for locks (decision 9): of the API, of a worker, where a slice of a plan
# takes 0.3 s, and of a command.
API_LIMIT_S, WORKER_LIMIT_S, COMMAND_LIMIT_S = 10, 25, 60

# They win over `ALTER ROLE … SET`, `ALTER DATABASE … SET` and postgresql.conf. Names that an older server does not know
# are skipped.
_PINNED = {
    "default_transaction_isolation": "read committed",  # guarded UPDATEs re-evaluate a changed row
    "default_transaction_deferrable": "off",
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",  # psycopg parses no other
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "array_nulls": "on",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "lock_timeout": "0",  # `statement_timeout` includes the wait (decision 9)
    "transaction_timeout": "0",  # a plan or an import may take long
    "idle_session_timeout": "0",  # pools hold idle connections on purpose
    "exit_on_error": "off",
    "jit": "off",  # no statement runs long enough: compiling took 0.2 of the sweep's 0.25 s
    "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_S}s",
    "tcp_user_timeout": f"{UNACKED_TIMEOUT_S}s",
    "tcp_keepalives_idle": f"{KEEPALIVE['idle']}s",
    "tcp_keepalives_interval": f"{KEEPALIVE['interval']}s",
    "tcp_keepalives_count": str(KEEPALIVE["count"]),
}

# `off` and `local` may lose what was acknowledged, so they become `on`. `remote_write` and `remote_apply` are kept.
_DURABLE = """
    SELECT pg_catalog.set_config('synchronous_commit', CASE
        WHEN pg_catalog.current_setting('synchronous_commit') IN ('off', 'local') THEN 'on'
        ELSE pg_catalog.current_setting('synchronous_commit') END, false)"""

# Counters and transitions depend on triggers. Only a superuser may change this back; another user gets an error here.
_TRIGGERED = """
    SELECT pg_catalog.set_config('session_replication_role', 'origin', false)
    WHERE pg_catalog.current_setting('session_replication_role') <> 'origin'"""

# The schema with our tables: `public`, or the one where the role's search_path put them when they were created.
_SCHEMA = """
    SELECT pg_catalog.set_config('search_path', pg_catalog.quote_ident(coalesce((
        SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = 'mailing_counts' AND c.relkind = 'r' AND EXISTS (
            SELECT FROM pg_catalog.pg_class v WHERE v.relnamespace = n.oid AND v.relname = 'alembic_version')
        ORDER BY pg_catalog.array_position(pg_catalog.current_schemas(false), n.nspname), n.nspname <> 'public',
            n.nspname LIMIT 1), 'public')), false)"""

_REQUIRED = (
    *("default_transaction_isolation", "default_transaction_deferrable", "DateStyle", "IntervalStyle", "TimeZone"),
    *("bytea_output", "array_nulls", "standard_conforming_strings", "transform_null_equals", "lock_timeout"),
    *("transaction_timeout", "idle_session_timeout", "idle_in_transaction_session_timeout"),
)


def first_statements(address: Address, *, limit_s: float) -> str:
    return _requirements(limit_s) if address.is_pooled else _pins(limit_s)


def _requirements(limit_s: float) -> str:
    """Return a statement that fails with what to do, unless the role has the settings that `_pins` would set."""
    values = ", ".join(f"('{name}', '{_PINNED[name]}')" for name in _REQUIRED)
    return f"""DO $$ DECLARE needed text; BEGIN
        SELECT pg_catalog.string_agg(pg_catalog.format('ALTER ROLE %I SET %s = %L;', current_user, name, value), ' ')
        INTO needed FROM (VALUES {values}) AS required (name, value)
        WHERE pg_catalog.current_setting(name, true) <> value;
        IF pg_catalog.current_setting('statement_timeout') = '0' THEN
            needed := pg_catalog.concat(needed,
                pg_catalog.format(' ALTER ROLE %I SET statement_timeout = ''{limit_s:.0f}s'';', current_user));
        END IF;
        IF pg_catalog.current_setting('synchronous_commit') IN ('off', 'local') THEN
            needed := pg_catalog.concat(needed,
                pg_catalog.format(' ALTER ROLE %I SET synchronous_commit = ''on'';', current_user));
        END IF;
        IF needed IS NOT NULL THEN
            RAISE EXCEPTION 'behind PgBouncer the role itself needs settings: % Then RECONNECT on PgBouncer''s console',
                needed USING ERRCODE = 'F0000';
        END IF;
    END $$"""  # noqa: S608 - constants of this module


def _pins(limit_s: float) -> str:
    """Return the statements for a new connection. `limit_s` bounds each later statement, including lock waits."""
    values = ", ".join(f"('{name}', '{value}')" for name, value in _PINNED.items())
    pinned = f"""
    SELECT pg_catalog.set_config(name, value, false) FROM (VALUES {values}) AS pinned (name, value)
    WHERE pg_catalog.current_setting(name, true) IS NOT NULL"""  # noqa: S608 - constants of this module
    return ";".join([f"SET statement_timeout = '{limit_s}s'", pinned, _DURABLE, _TRIGGERED, _SCHEMA])

"""Settings that a server, a database or a role may have, and that would change what our statements mean."""

from collections.abc import Mapping

import asyncpg

from support.database_copies import end_idle_connections

# What somebody may have set → what every connection has.
HOSTILE = {
    "synchronous_commit": ("off", "on"),
    "default_transaction_isolation": ("'repeatable read'", "read committed"),
    "default_transaction_deferrable": ("on", "off"),
    "client_encoding": ("LATIN1", "UTF8"),
    "DateStyle": ("'German, DMY'", "ISO, MDY"),
    "IntervalStyle": ("sql_standard", "postgres"),
    "TimeZone": ("'Asia/Kathmandu'", "UTC"),
    "bytea_output": ("escape", "hex"),
    "extra_float_digits": ("-15", "1"),
    "array_nulls": ("off", "on"),
    "standard_conforming_strings": ("off", "on"),
    "transform_null_equals": ("on", "off"),
    "lock_timeout": ("1", "0"),
    "idle_session_timeout": ("2000", "0"),
    "exit_on_error": ("on", "off"),
    "jit": ("on", "off"),
    "jit_above_cost": ("0", "0"),  # nothing to pin while it is off
    "search_path": ("elsewhere", "public"),
    "statement_timeout": ("50", "20s"),
    "idle_in_transaction_session_timeout": ("50", "5s"),
}


async def change(url: str, settings: Mapping[str, str]) -> None:
    """For every role that connects to the database from now on."""
    admin = await asyncpg.connect(url)
    name = await admin.fetchval("SELECT current_database()")
    for setting, chosen in settings.items():
        await admin.execute(f"ALTER DATABASE {name} SET {setting} = {chosen}")
    await admin.close()
    end_idle_connections()


async def make_hostile(url: str) -> None:
    """Apply every hostile setting, and put tables of the same names first on the search path."""
    admin = await asyncpg.connect(url)
    await admin.execute("CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.procrastinate_jobs (id int)")
    await admin.execute("CREATE TABLE elsewhere.gateway (id int)")
    await admin.close()
    await change(url, {name: hostile for name, (hostile, _) in HOSTILE.items()})

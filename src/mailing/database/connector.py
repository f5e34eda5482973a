"""Arguments for both drivers from one address, and asyncpg connections to the first host that answers.

Each host has its own timeout, so that one that accepts and stays silent does not hide the next, as in psycopg.
"""

import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import asyncpg

from mailing.database.address import SETTING, Address, Host
from mailing.database.connections import CONNECT_S, DRIVER_ERRORS
from mailing.database.error_messages import describe
from mailing.database.errors import is_transient
from mailing.errors import ConfigurationError

CONNECT_EACH_S = 2  # one of several hosts
RECONNECT_S = 2.0  # a host, right after a connection was found dead: a request waits. Doubled with each failure
# The timeline of a primary, in hexadecimal: the first digits of a log file's name. A standby has none of its own.
_TIMELINE = """
    SELECT system_identifier, left(pg_walfile_name(pg_current_wal_lsn()), 8) AS timeline FROM pg_control_system()
    WHERE NOT pg_is_in_recovery()
"""
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


class Connector:
    """Connect to the first host that satisfies `target_session_attrs`, starting with the last good one.

    Of several hosts, a former primary is left out: one with an earlier timeline than was seen before. It was frozen
    while another was promoted; changes made on it would be lost.
    """

    def __init__(self, address: Address, *, application: str, command_timeout_s: float) -> None:
        """Load certificates. Raise ConfigurationError for a certificate or key that cannot be used."""
        parameters = usable_parameters(address)
        self._target = address.target
        self._is_limited = "connect_timeout" not in address.parameters
        self._limit_s: float | None = None
        self._hosts = list(address.hosts)
        self._newest: dict[int, str] = {}  # timelines, by the identifier of their cluster
        settings = {"application_name": parameters.get("application_name", application)}
        if "options" in parameters:
            settings["options"] = parameters["options"]
        self._arguments: dict[str, Any] = {
            "dsn": "postgresql://?"
            + urlencode({name: parameters[name] for name in parameters if name.startswith("ssl")}),
            "user": address.user,
            "password": address.password,
            "database": address.database,
            "passfile": parameters.get("passfile"),
            "timeout": _limit_s(address),
            "command_timeout": command_timeout_s,
            "server_settings": settings,
            **({"statement_cache_size": 0} if address.is_pooled else {}),
        }

    def suspect_outage(self) -> None:
        """Bound the next attempts: a connection was found dead, so the database may be away."""
        if self._is_limited and self._limit_s is None:
            self._limit_s = RECONNECT_S

    async def connect(self) -> asyncpg.Connection:
        arguments = self._arguments if self._limit_s is None else self._arguments | {"timeout": self._limit_s}
        failures: dict[Host, Exception] = {}
        targets = ("standby", "any") if self._target == "prefer-standby" else (self._target,)
        for target in targets:
            for host in list(self._hosts):
                try:
                    connection = await asyncpg.connect(
                        **arguments, host=host.name, port=host.port, target_session_attrs=target
                    )
                    await self._refuse_former_primary(connection)
                except DRIVER_ERRORS as error:
                    error.add_note(f"PostgreSQL at {host}")
                    failures[host] = error
                else:
                    self._prefer(host)
                    self._limit_s = None
                    return connection
        if self._limit_s is not None:
            self._limit_s = min(2 * self._limit_s, self._arguments["timeout"])
        raise _all_failed(failures)

    async def _refuse_former_primary(self, connection: asyncpg.Connection) -> None:
        if len(self._hosts) == 1:
            return
        try:
            primary = await connection.fetchrow(_TIMELINE, timeout=CONNECT_EACH_S)
        except asyncpg.PostgresError:
            return  # these functions are refused, as by Amazon Aurora
        except BaseException:
            connection.terminate()
            raise
        if primary is None:
            return
        cluster, timeline = primary
        if timeline < self._newest.get(cluster, ""):
            connection.terminate()
            raise ConnectionError("a former primary: another was promoted meanwhile")
        self._newest[cluster] = timeline

    def _prefer(self, host: Host) -> None:
        if self._hosts[0] != host:
            self._hosts.remove(host)
            self._hosts.insert(0, host)


def psycopg_arguments(address: Address, *, application: str) -> dict[str, Any]:
    """Raise ConfigurationError for a certificate or key that cannot be used."""
    given: dict[str, Any] = {
        "application_name": application,
        **usable_parameters(address),
        "host": ",".join(host.name for host in address.hosts),
        "port": ",".join(str(host.port) for host in address.hosts),
        "user": address.user,
        "password": address.password,
        "dbname": address.database,
        "connect_timeout": _limit_s(address),
        "target_session_attrs": address.target,
    }
    return {name: value for name, value in given.items() if value is not None and name != "pgbouncer"}


def usable_parameters(address: Address) -> dict[str, str]:
    """Replace `sslrootcert=system` by a file: asyncpg does not know `system`, and psycopg's OpenSSL has no CAs.

    Raise ConfigurationError if a file cannot be used, before a driver does with a message of its own.
    """
    parameters = dict(address.parameters)
    if parameters.get("sslrootcert") == "system":
        parameters["sslrootcert"] = _system_bundle()
    if parameters.get("sslmode") in {"verify-ca", "verify-full"}:
        parameters.setdefault("sslrootcert", str(Path("~/.postgresql/root.crt").expanduser()))
    problems = [f"{SETTING}: {flaw}" for name in _FILES if (flaw := _flaw_of_file(name, parameters.get(name)))]
    if problems:
        raise ConfigurationError(problems)
    return parameters


def _system_bundle() -> str:
    known = (ssl.get_default_verify_paths().cafile, *_BUNDLES)
    found = next((path for path in known if path and Path(path).is_file()), None)
    if found is None:
        raise ConfigurationError([f"{SETTING}: sslrootcert=system: this system has no file of CAs; name one"])
    return found


def _flaw_of_file(name: str, path: str | None) -> str | None:
    if path is None:
        return None
    try:
        Path(path).read_bytes()
        if name in {"sslrootcert", "sslcrl"}:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
        status = Path(path).stat()
    except ssl.SSLError:
        return f"{name}: there is nothing of that kind in {path} (PEM)"
    except OSError as error:
        return f"{name}: {path} cannot be read: {error.strerror}"
    allowed = 0o640 if status.st_uid == 0 else 0o600
    if name == "sslkey" and status.st_mode & 0o777 & ~allowed:
        return f"sslkey: others may read {path}: chmod 600"  # libpq refuses it
    return None


def _limit_s(address: Address) -> int:
    given = address.parameters.get("connect_timeout")
    return int(given) if given else CONNECT_S if len(address.hosts) == 1 else CONNECT_EACH_S


def _all_failed(failures: dict[Host, Exception]) -> Exception:
    """Return the error: that of a single host; of several hosts, a permanent refusal or all errors in one."""
    errors = list(failures.values())
    lasting = [error for error in errors if isinstance(error, asyncpg.PostgresError) and not is_transient(error)]
    if len(errors) == 1 or lasting:
        return (lasting or errors)[0]
    combined = ConnectionError("; ".join(map(describe, errors)))
    combined.__cause__ = errors[-1]
    return combined

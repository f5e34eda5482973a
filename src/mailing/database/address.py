"""`MAILING_DATABASE_URL`, parsed once by libpq's rules. Both drivers get their arguments from the result.

asyncpg sends an unknown parameter to the server as a setting, and psycopg reads some that asyncpg does not. So the
parameters are a fixed list that both treat alike.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

import msgspec

from mailing.errors import ConfigurationError

SETTING = "MAILING_DATABASE_URL"
DEFAULT_PORT = 5432

_URL = re.compile(
    r"(?:postgresql|postgres)(?:\+(?:asyncpg|psycopg|psycopg2))?://(?:([^/@]*)@)?([^/?]*)(?:/([^?]*))?(?:\?(.*))?"
)
_TARGETS = frozenset({"any", "read-write", "read-only", "primary", "standby", "prefer-standby"})
_TLS_VERSIONS = frozenset({"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"})
_VERIFYING = frozenset({"verify-ca", "verify-full"})

# Every parameter, with its values if there are only a few.
PARAMETERS: dict[str, frozenset[str] | None] = {
    "sslmode": frozenset({"disable", "allow", "prefer", "require"}) | _VERIFYING,
    "sslrootcert": None,
    "sslcert": None,
    "sslkey": None,
    "sslpassword": None,
    "sslcrl": None,
    "sslnegotiation": frozenset({"postgres", "direct"}),
    "ssl_min_protocol_version": _TLS_VERSIONS,
    "ssl_max_protocol_version": _TLS_VERSIONS,
    "target_session_attrs": _TARGETS,
    "connect_timeout": None,
    "application_name": None,
    "options": None,
    "passfile": None,
    "pgbouncer": frozenset({"true"}),  # not libpq's: transactions of one connection reach different servers
}
_KEEPALIVE = "leave it out, each connection has keepalives"
_REMEDIES = {  # for what other programs' addresses have
    "ssl": "use sslmode",
    "channel_binding": "leave it out, sslmode=verify-full proves which server answers",
    "keepalives": _KEEPALIVE,
    "keepalives_idle": _KEEPALIVE,
    "keepalives_interval": _KEEPALIVE,
    "keepalives_count": _KEEPALIVE,
    "tcp_user_timeout": _KEEPALIVE,
    "hostaddr": "use host",
    "client_encoding": "leave it out, it is always UTF8",
}
_PLACES = ("host", "port", "user", "password", "dbname")  # these may also be in the query, which takes precedence

# libpq's variables that asyncpg does not read, or reads differently.
_VARIABLES = {
    "PGSSLMODE": "sslmode",
    "PGSSLROOTCERT": "sslrootcert",
    "PGTARGETSESSIONATTRS": "target_session_attrs",
    "PGCONNECT_TIMEOUT": "connect_timeout",
    "PGOPTIONS": "options",
}
_SOCKETS = ("/run/postgresql", "/var/run/postgresql", "/tmp")  # noqa: S108 - the usual directory of the socket
_ENCODE = "a special character in a name or password must be percent-encoded, such as %40 for @"


class Host(msgspec.Struct, frozen=True):
    """A name, an address or the directory of a Unix socket."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


class Address(msgspec.Struct, frozen=True):
    """`parameters` are those given, without defaults. `secrets` are included as in the URL, and decoded."""

    hosts: tuple[Host, ...]
    user: str | None
    password: str | None
    database: str | None
    parameters: dict[str, str]
    secrets: tuple[str, ...]

    @property
    def is_pooled(self) -> bool:
        """Whether the address leads to PgBouncer in transaction mode."""
        return "pgbouncer" in self.parameters

    @property
    def target(self) -> str:
        """The kind of server to use. Default: any of a single host, a writable one of several hosts."""
        return self.parameters.get("target_session_attrs", "any" if len(self.hosts) == 1 else "read-write")


def parse(url: str, environ: Mapping[str, str] = os.environ) -> Address:
    """Parse the URL. Raise ConfigurationError with all problems, without values, which may be secret."""
    found = _URL.fullmatch(url)
    if found is None:
        raise ConfigurationError([f"{SETTING} must look like postgresql://user:password@host:5432/name"])
    problems: list[str] = []
    account, hostspec, database, query = found.groups(default="")
    user, _, password = account.partition(":")
    names, ports = _hosts(hostspec, problems)
    given = {"user": user, "password": password, "dbname": database, "host": names, "port": ports}
    given = {name: _decoded(value, problems) for name, value in given.items()}
    given |= _query(query, problems)
    raw = (password, *re.findall(r"(?:^|&)(?:ssl)?password=([^&]*)", query))
    parameters = {name: value for name, value in given.items() if value and name in PARAMETERS}
    for variable, name in _VARIABLES.items():
        if environ.get(variable):
            parameters.setdefault(name, environ[variable])
    if parameters.get("sslrootcert") == "system":
        parameters.setdefault("sslmode", "verify-full")
    problems += _flaws(parameters)
    hosts = _paired(given["host"] or environ.get("PGHOST", ""), given["port"] or environ.get("PGPORT", ""), problems)
    if problems:
        raise ConfigurationError([f"{SETTING}: {problem}" for problem in dict.fromkeys(problems)])
    secrets = (*raw, given["password"], parameters.get("sslpassword", ""))
    return Address(
        hosts=hosts,
        user=given["user"] or None,
        password=given["password"] or None,
        database=given["dbname"] or None,
        parameters=parameters,
        secrets=tuple(dict.fromkeys(secret for secret in secrets if secret)),
    )


def _hosts(hostspec: str, problems: list[str]) -> tuple[str, str]:
    """Parse names and ports, each a comma-separated list."""
    names, ports = [], []
    for part in hostspec.split(","):
        found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^:@\[\]]*))(?::(.*))?", part)
        if found is None or not re.fullmatch(r"\d*", found[3] or ""):
            problems.append(f"the host is not host or host:port (an IPv6 address in brackets); {_ENCODE}")
        else:
            names.append(found[1] or found[2] or "")
            ports.append(found[3] or "")
    return ",".join(names), ",".join(ports) if any(ports) else ""


def _decoded(value: str, problems: list[str]) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", value) or re.search(r"\s|%00", value):
        problems.append(f"it contains a blank, or a % that two hex digits do not follow (write %25); {_ENCODE}")
        return ""
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        problems.append("a percent-encoded value is not UTF-8")
        return ""


def _query(query: str, problems: list[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for pair in query.split("&") if query else []:
        key, equals, value = pair.partition("=")
        name = _decoded(key, problems)
        if not equals:
            problems.append("after the ? there must be name=value pairs with & between them")
        elif name in given:
            problems.append(f"{name} is given twice")
        elif name in PARAMETERS or name in _PLACES:
            given[name] = _decoded(value, problems)
        else:
            remedy = _REMEDIES.get(name, f"supported are {', '.join((*PARAMETERS, *_PLACES))}")
            problems.append(f"{name!a} is not supported; {remedy}")
    return {name: value for name, value in given.items() if value}


def _flaws(parameters: Mapping[str, str]) -> list[str]:
    flaws = [
        f"{name} must be {', '.join(sorted(choices))}"
        for name, choices in PARAMETERS.items()
        if choices and parameters.get(name, next(iter(choices))) not in choices
    ]
    if not re.fullmatch(r"[1-9]\d{0,2}", parameters.get("connect_timeout", "1")):
        flaws.append("connect_timeout must be seconds from 1 to 999")
    mode = parameters.get("sslmode", "prefer")
    if parameters.get("sslrootcert") == "system" and mode != "verify-full":
        flaws.append("sslrootcert=system needs sslmode=verify-full")
    if parameters.get("sslnegotiation") == "direct" and mode not in _VERIFYING | {"require"}:
        flaws.append("sslnegotiation=direct needs sslmode=require, verify-ca or verify-full")
    return flaws


def _paired(names: str, ports: str, problems: list[str]) -> tuple[Host, ...]:
    """Pair each host with its port. One port counts for all; an empty host is the local socket."""
    hosts, numbers = names.split(","), ports.split(",")
    if len(numbers) == 1:
        numbers *= len(hosts)
    if len(numbers) != len(hosts):
        problems.append("there must be one port, or as many as hosts")
        return ()
    if any(re.search(r"^[^:/]+:\d+$", name) for name in hosts):
        problems.append("a host in the query has no port: give it as port=")
        return ()
    if any(number and not (number.isdecimal() and 0 < int(number) < 65536) for number in numbers):
        problems.append("a port must be from 1 to 65535")
        return ()
    paired = zip(hosts, (int(number or DEFAULT_PORT) for number in numbers), strict=True)
    return tuple(Host(name or _local(port), port) for name, port in paired)


def _local(port: int) -> str:
    return next((place for place in _SOCKETS if Path(place, f".s.PGSQL.{port}").exists()), "localhost")

"""One address for two drivers, against a PostgreSQL with TLS over TCP and a standby of it."""

import asyncio
import os
import shutil
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg import conninfo

from mailing.database.address import parse
from mailing.database.connector import psycopg_arguments
from mailing.database.engine import open_engine
from mailing.process.ports import free_port
from support.commands import mailing
from support.database import Database
from support.postgres import Cluster, own_cluster, running
from support.processes import clean_environment
from support.tls import Authority

SMALL = ("fsync=off", "shared_buffers=16MB", "max_connections=40")
ACCESS = """
local all all trust
hostssl all certified 127.0.0.1/32 cert
host all known 127.0.0.1/32 scram-sha-256
hostssl all all 127.0.0.1/32 trust
local replication all trust
"""
PASSWORD = "p@ss/w%rd:?#ы"
SHOW = """
    SELECT current_setting('application_name'), current_setting('work_mem'), current_setting('port'),
        (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), session_user"""


@dataclass
class Place:
    """The server, its standby, the right CA and a wrong one."""

    server: Cluster
    standby: Cluster
    ca: Path
    wrong: Path
    client: tuple[Path, Path]

    def url(self, rest: str = "", host: str | None = None, user: str = "postgres") -> str:
        return f"postgresql://{user}@{host or f'localhost:{self.server.port}'}/postgres?{rest}".rstrip("?")

    @property
    def verified(self) -> str:
        return f"sslmode=verify-full&sslrootcert={self.ca}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("tls")
    right, wrong = Authority(directory), Authority(directory, "another CA")
    server = own_cluster()
    owner = server.data.stat()
    for file, name in zip(
        (*right.sign("server", "localhost"), right.certificate), ("s.crt", "s.key", "ca"), strict=True
    ):
        shutil.copy(file, server.data / name)
        os.chown(server.data / name, owner.st_uid, owner.st_gid)
        (server.data / name).chmod(0o600)
    (server.data / "pg_hba.conf").write_text(ACCESS)
    tuning = (*SMALL, "ssl=on", "ssl_cert_file=s.crt", "ssl_key_file=s.key", "ssl_ca_file=ca")
    with running(server, tuning):
        place = Place(server, server, right.certificate, wrong.certificate, right.sign("certified"))
        with psycopg.connect(place.url("sslmode=require"), autocommit=True) as connection:
            connection.execute("CREATE ROLE certified LOGIN")
            connection.execute(f"CREATE ROLE known LOGIN PASSWORD '{PASSWORD}'")
        place.standby = replace(server, data=server.home / "standby", port=free_port())
        source = f"host={server.sockets} port={server.port} user=postgres"
        server.run("pg_basebackup", "-D", str(place.standby.data), "-d", source, "-R", "-X", "stream", "-c", "fast")
        place.standby.start(tuning)
        yield place
        place.standby.stop()


Asked = tuple[str, str, str, bool, str]
Driver = Callable[[str], Awaitable[Asked]]


async def by_asyncpg(url: str) -> Asked:
    async with open_engine(url, application="ours") as engine:
        return tuple((await Database(engine).run(SHOW))[0])


async def by_psycopg(url: str) -> Asked:
    arguments = psycopg_arguments(parse(url), application="ours")
    async with await psycopg.AsyncConnection.connect(conninfo.make_conninfo(**arguments)) as connection:
        row: Any = await (await connection.execute(SHOW)).fetchone()
        return tuple(row)


drivers = pytest.mark.parametrize("driver", [by_asyncpg, by_psycopg])


@drivers
@pytest.mark.parametrize("prefix", ["postgresql", "postgres", "postgresql+asyncpg"])
async def test_parameters_reach_the_server(place: Place, driver: Driver, prefix: str) -> None:
    given = "application_name=their%20name&options=-c%20work_mem%3D5MB&connect_timeout=9&sslmode=require"
    url = place.url(given).replace("postgresql", prefix, 1)
    assert await driver(url) == ("their name", "5MB", str(place.server.port), True, "postgres")
    assert (await driver(place.url("sslmode=require")))[0] == "ours"


@drivers
@pytest.mark.parametrize("mode", ["allow", "prefer", "require", "verify-ca", "verify-full"])
async def test_every_mode_but_disable_is_let_in_by_a_server_that_wants_tls(
    place: Place, driver: Driver, mode: str
) -> None:
    assert (await driver(place.url(f"sslmode={mode}&sslrootcert={place.ca}")))[3] is True


@drivers
async def test_without_tls_it_is_not(place: Place, driver: Driver) -> None:
    with pytest.raises(Exception, match=r"no pg_hba\.conf entry"):
        await driver(place.url("sslmode=disable"))


@drivers
@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_a_wrong_ca_is_refused(place: Place, driver: Driver, mode: str) -> None:
    with pytest.raises(Exception, match=r"certificate verify failed"):
        await driver(place.url(f"sslmode={mode}&sslrootcert={place.wrong}"))


@drivers
async def test_another_name_than_the_certificate_s_is_refused_by_verify_full_alone(
    place: Place, driver: Driver
) -> None:
    host = f"127.0.0.1:{place.server.port}"
    assert (await driver(place.url(f"sslmode=verify-ca&sslrootcert={place.ca}", host)))[3]
    with pytest.raises(Exception, match=r"(?i)not valid for '127|does not match host name"):
        await driver(place.url(place.verified, host))


@drivers
async def test_the_system_s_cas_refuse_one_of_our_own(place: Place, driver: Driver) -> None:
    with pytest.raises(Exception, match="certificate verify failed"):
        await driver(place.url("sslrootcert=system"))


@drivers
async def test_the_system_s_cas_are_those_of_python(
    place: Place, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(place.ca))
    assert (await driver(place.url("sslrootcert=system")))[3] is True


@drivers
async def test_a_certificate_of_our_own_signs_us_in(place: Place, driver: Driver) -> None:
    certificate, key = place.client
    own = f"{place.verified}&sslcert={certificate}&sslkey={key}"
    assert (await driver(place.url(own, user="certified")))[4] == "certified"


@drivers
async def test_a_password_with_special_characters_is_percent_encoded(place: Place, driver: Driver) -> None:
    url = place.url("sslmode=disable", user=f"known:{quote(PASSWORD, safe='')}")
    assert (await driver(url))[3:] == (False, "known")


@drivers
async def test_a_socket_needs_no_tls(place: Place, driver: Driver) -> None:
    directory = quote(str(place.server.sockets), safe="")
    for url in (
        f"postgresql://postgres@/postgres?host={directory}&port={place.server.port}",
        f"postgresql://postgres@{directory}:{place.server.port}/postgres?sslmode=verify-full&sslrootcert={place.ca}",
    ):
        assert (await driver(url))[3] is False


class Silent:
    """A host that accepts connections and sends nothing."""

    def __init__(self, listener: socket.socket) -> None:
        self.port: int = listener.getsockname()[1]
        self._listener = listener

    def connections(self) -> int:
        """Count the connections since the last call."""
        count = 0
        with suppress(BlockingIOError):
            while True:
                self._listener.accept()[0].close()
                count += 1
        return count


@contextmanager
def silent() -> Iterator[Silent]:
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listener:
        listener.setblocking(False)
        yield Silent(listener)


@drivers
async def test_hosts_that_are_down_unknown_or_silent_are_passed_over(place: Place, driver: Driver) -> None:
    with silent() as host:
        hosts = f"127.0.0.1:1,nowhere.invalid:2,127.0.0.1:{host.port},localhost:{place.server.port}"
        began = time.monotonic()
        assert (await driver(place.url(place.verified, hosts)))[2] == str(place.server.port)
        assert time.monotonic() - began < 30, "two seconds each, on a busy machine"


@drivers
@pytest.mark.parametrize(
    ("target", "finds"),
    [("", "server"), ("read-write", "server"), ("primary", "server"), ("any", "standby"), ("standby", "standby"),
     ("read-only", "standby"), ("prefer-standby", "standby")],
)  # fmt: skip
async def test_of_several_hosts_the_one_that_is_asked_for(
    place: Place, driver: Driver, target: str, finds: str
) -> None:
    hosts = f"localhost:{place.standby.port},localhost:{place.server.port}"
    found = await driver(place.url(f"{place.verified}&target_session_attrs={target}", hosts))
    assert found[2] == str(getattr(place, finds).port)


async def test_the_host_that_answered_last_is_asked_first(place: Place) -> None:
    with silent() as host:
        url = place.url("sslmode=require", f"127.0.0.1:{host.port},localhost:{place.server.port}")
        async with open_engine(url, application="ours", pool_size=2) as engine, engine.connect():
            assert host.connections() > 0
            async with asyncio.timeout(30), engine.connect():
                assert host.connections() == 0, "the silent one is not asked again"


async def test_of_several_hosts_each_one_s_reason_is_told(place: Place) -> None:
    with silent() as host, pytest.raises(ConnectionError) as failed:
        await by_asyncpg(place.url(place.verified, f"127.0.0.1:1,127.0.0.1:{host.port},127.0.0.1:{place.server.port}"))
    told = str(failed.value)
    assert f"127.0.0.1:{host.port}: the database did not answer in time" in told
    assert f"127.0.0.1:{place.server.port}: the certificate of the database's server is refused" in told


def done_in(directory: Path, url: str, command: str) -> CompletedProcess[str]:
    env = clean_environment(
        MAILING_DATABASE_URL=url, MAILING_GATEWAY_URL="http://127.0.0.1:1", MAILING_PORT=str(free_port())
    )
    return mailing(command, cwd=directory, env=env)


@pytest.mark.parametrize("command", ["doctor", "migrate", "api", "worker"])
def test_each_command_says_in_a_line_that_the_certificate_is_refused(
    place: Place, tmp_path: Path, command: str
) -> None:
    done = done_in(tmp_path, place.url(f"sslmode=verify-full&sslrootcert={place.wrong}"), command)
    told = done.stdout + done.stderr
    assert done.returncode == 1
    assert "the certificate of the database's server is refused" in told
    assert "sslrootcert" in told
    assert "Traceback" not in told


def test_a_file_that_is_not_there_is_a_line_too(place: Place, tmp_path: Path) -> None:
    done = done_in(tmp_path, place.url("sslmode=verify-full&sslrootcert=/nowhere.pem"), "migrate")
    told = "mailing: MAILING_DATABASE_URL: sslrootcert: /nowhere.pem cannot be read: No such file or directory\n"
    assert (done.returncode, done.stderr) == (2, told)


def test_the_service_is_set_up_over_tls_with_a_standby_named_first(place: Place, tmp_path: Path) -> None:
    hosts = f"127.0.0.1:1,localhost:{place.standby.port},localhost:{place.server.port}"
    url = place.url(place.verified, hosts)
    assert done_in(tmp_path, url, "migrate").stderr == ""
    found = done_in(tmp_path, url, "doctor").stdout
    assert "ok     database" in found
    assert "ok     schema" in found

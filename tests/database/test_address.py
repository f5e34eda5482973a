"""`MAILING_DATABASE_URL` means what libpq makes of it, for both drivers; anything else is refused by name."""

import re
from pathlib import Path

import pytest
from psycopg import conninfo

from mailing.database.address import PARAMETERS, parse
from mailing.database.connector import psycopg_arguments, usable_parameters
from mailing.errors import ConfigurationError
from mailing.settings import Settings, load, secrets_of
from support import ROOT

SECRET = "s3cret-word"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:p%40ss%2Fw%25@db.example:6543/mailing",
        "postgres://user@db.example/mailing",
        "postgresql://db.example",
        "postgresql://user:pass#word?x@db.example/mailing",
        "postgresql://[::1]:5433/mailing",
        "postgresql://u@[fe80::1]/mailing?sslmode=require",
        "postgresql://u@h1:1,h2:2,[::3]:3/mailing?target_session_attrs=any",
        "postgresql://u@h1,h2/mailing?target_session_attrs=primary",
        "postgresql://u@h1,h2/mailing?port=6000&target_session_attrs=read-write",
        "postgresql://u@/mailing?host=/var/run/postgresql",
        "postgresql://u@/mailing?host=/var/run/postgresql&port=5433",
        "postgresql://u@%2Fvar%2Frun%2Fpostgresql:5433/mailing",
        "postgresql://db.example/mailing?user=u&password=a%26b%3Dc",
        "postgresql://u:old@db.example/mailing?password=new&host=other&dbname=third",
        "postgresql://db.example/mailing?options=-c%20work_mem%3D8MB%20-c%20search_path%3Da&application_name=my%20app",
        "postgresql://db.example/ma%20il?connect_timeout=7&sslmode=disable&passfile=%2Fx%2Fy",
        "postgresql://db.example/m?sslmode=allow&ssl_min_protocol_version=TLSv1.3&sslnegotiation=postgres",
        "postgresql://db.example/m?sslmode=",
    ],
)
def test_an_address_means_what_libpq_makes_of_it(url: str) -> None:
    told = {name: value for name, value in conninfo.conninfo_to_dict(url).items() if value}
    ours = psycopg_arguments(parse(url, {}), application="x")
    hosts = str(told.get("host", "")).count(",") + 1
    ports = str(told.get("port", "")).split(",")
    defaults = {"application_name": "x", "connect_timeout": 5 if hosts == 1 else 2, "target_session_attrs": "any"}
    expected = (
        defaults | told | {"port": ",".join(port or "5432" for port in ports * (hosts if len(ports) == 1 else 1))}
    )
    assert {name: str(value) for name, value in ours.items()} == {name: str(value) for name, value in expected.items()}


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg", "psycopg2"])
def test_the_name_of_a_driver_in_the_scheme_is_left_out(driver: str) -> None:
    rest = "://user:pass@db.example/mailing?sslmode=require"
    assert parse(f"postgresql+{driver}{rest}") == parse(f"postgresql{rest}")


def test_of_several_hosts_one_that_can_be_written_to_is_meant() -> None:
    assert psycopg_arguments(parse("postgresql://a,b/x"), application="x")["target_session_attrs"] == "read-write"
    assert psycopg_arguments(parse("postgresql://a/x"), application="x")["target_session_attrs"] == "any"


def test_without_a_host_both_drivers_are_given_the_same_one() -> None:
    (host,) = parse("postgresql:///x?port=1", {}).hosts
    assert str(host) == "localhost:1"
    hosts = parse("postgresql:///x", {"PGHOST": "h1,h2", "PGPORT": "6,7"}).hosts
    assert [str(each) for each in hosts] == ["h1:6", "h2:7"]


def test_variables_of_libpq_fill_what_the_address_leaves_out() -> None:
    environ = {"PGSSLMODE": "require", "PGCONNECT_TIMEOUT": "9", "PGOPTIONS": "-c a.b=c"}
    expected = {"sslmode": "disable", "connect_timeout": "9", "options": "-c a.b=c"}
    assert parse("postgresql://h/x?sslmode=disable", environ).parameters == expected


HOST = f"postgresql://u:{SECRET}@h"
REFUSED = {
    "'ssl' is not supported; use sslmode": [f"{HOST}/x?ssl=true"],
    "'pool_size' is not supported; supported are ": [f"{HOST}/x?ssl=require&pool_size=5"],
    "'SSLMODE' is not supported": [f"{HOST}/x?SSLMODE=require"],
    "'channel_binding' is not supported; leave it out, sslmode=verify-full": [f"{HOST}/x?channel_binding=require"],
    "'keepalives_idle' is not supported; leave it out, each": [f"{HOST}/x?keepalives_idle=30"],
    "sslmode must be allow, disable, prefer, require, verify-ca, verify-full": [f"{HOST}/x?sslmode=on"],
    "sslmode is given twice": [f"{HOST}/x?sslmode=require&sslmode=disable"],
    "name=value pairs": [f"{HOST}/x?sslmode", f"{HOST}/x?sslmode=require&"],
    "target_session_attrs must be any, ": [f"{HOST}/x?target_session_attrs=master"],
    "connect_timeout must be seconds": [f"{HOST}/x?connect_timeout=soon", f"{HOST}/x?connect_timeout=0"],
    "needs sslmode=verify-full": [f"{HOST}/x?sslrootcert=system&sslmode=require"],
    "needs sslmode=require": [f"{HOST}/x?sslnegotiation=direct"],
    "as many as hosts": [f"postgresql://u:{SECRET}@h1:1,h2:2/x?port=1,2,3"],
    "a port must be from 1 to 65535": [f"{HOST}:0/x", f"{HOST}:99999/x"],
    "the host is not host or host:port": [f"{HOST}:{SECRET}/x"],
    "percent-encoded, such as %40 for @": [f"postgresql://u:a{mark}{SECRET}@h/x" for mark in "@/"],
    "write %25": [f"postgresql://u:{SECRET}%@h/x"],
    "not UTF-8": [f"postgresql://u:{SECRET}%ff@h/x"],
    "contains a blank": [f"postgresql://u:{SECRET} x@h/x"],
    "an IPv6 address in brackets": [f"postgresql://u:{SECRET}@{host}/x" for host in ("::1:5432", "[::1")],
    "give it as port=": [f"postgresql://u:{SECRET}@/x?host=h:5433"],
    "must look like postgresql://": [
        *(f"mysql://u:{SECRET}@h/x", f"postgresql:/u:{SECRET}@h/x"),
        *(f"jdbc:postgresql://h/x?password={SECRET}", f"host=h password={SECRET}"),
    ],
}


@pytest.mark.parametrize(("url", "names"), [(url, names) for names, urls in REFUSED.items() for url in urls])
def test_what_is_not_understood_is_refused_by_name_and_shows_no_secret(url: str, names: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load({"MAILING_DATABASE_URL": url})
    assert all(problem.startswith("MAILING_DATABASE_URL") for problem in refused.value.problems)
    assert names in str(refused.value)
    assert SECRET not in str(refused.value)


def test_every_problem_of_an_address_is_named_at_once_beside_those_of_others() -> None:
    with pytest.raises(ConfigurationError) as refused:
        load({"MAILING_DATABASE_URL": "postgresql://h/x?ssl=1&foo=2&sslmode=x", "MAILING_REPORT_TIME": "9"})
    assert len(refused.value.problems) == 4


def test_secrets_are_masked_as_they_stand_and_decoded() -> None:
    url = "postgresql://u:p%40ssword@h/x?sslpassword=key%2Fword"
    assert {"p%40ssword", "p@ssword", "key%2Fword", "key/word"} <= set(secrets_of(Settings(database_url=url)))


@pytest.mark.parametrize("name", ["sslrootcert", "sslcert", "sslkey", "sslcrl"])
def test_a_file_that_can_not_be_used_is_named_before_a_driver_fails_on_it(name: str, tmp_path: Path) -> None:
    address = parse(f"postgresql://h/x?sslmode=require&{name}={tmp_path}/missing.pem")
    with pytest.raises(ConfigurationError, match=f"{name}: .*missing.pem cannot be read: No such file"):
        usable_parameters(address)


def test_a_certificate_that_is_none_and_a_key_that_others_may_read_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "file.pem"
    file.write_text("nothing")
    file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="sslrootcert: there is nothing of that kind"):
        usable_parameters(parse(f"postgresql://h/x?sslmode=require&sslrootcert={file}"))
    with pytest.raises(ConfigurationError, match="chmod 600"):
        usable_parameters(parse(f"postgresql://h/x?sslmode=require&sslkey={file}"))


def test_verifying_needs_a_certificate_and_the_system_s_is_a_file_for_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"sslrootcert: .*root\.crt cannot be read"):
        usable_parameters(parse("postgresql://h/x?sslmode=verify-full"))
    found = usable_parameters(parse("postgresql://h/x?sslrootcert=system"))
    assert found["sslmode"] == "verify-full"
    assert Path(found["sslrootcert"]).is_file()


def test_the_manual_lists_exactly_the_parameters() -> None:
    manual = (ROOT / "docs/operations.md").read_text("utf-8")
    section = manual.partition("### The database's address")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, flags=re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == {
        *PARAMETERS,
        "host",
        "port",
        "user",
        "password",
        "dbname",
    }

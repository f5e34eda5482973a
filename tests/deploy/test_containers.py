"""docker-compose.yml and the Containerfile are compared with the program; `make containers` really runs them."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml  # type: ignore[import-untyped] # comes with Litestar, its stubs don't

from mailing import __version__, settings
from mailing.clients.upload.actions import MAX_FILE_BYTES
from mailing.settings import PREFIX, Settings
from support import ROOT
from support.command_lines import require_known

CONTAINERFILE = (ROOT / "Containerfile").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
BUILT_HERE = {name: service for name, service in SERVICES.items() if service["image"].startswith("localhost/")}
PARTS = {name: service for name, service in SERVICES.items() if service["image"] == "localhost/mailing"}
NAMES = {PREFIX + name.upper() for name in Settings.__struct_fields__}


def with_defaults(value: object) -> str:
    """Replace `${NAME:-default}` as Compose does when nothing is set, the innermost one first."""
    text, found = str(value), 1
    while found:
        text, found = re.subn(r"\$\{\w+(?::?-([^${}]*))?\}", lambda variable: variable[1] or "", text)
    return text


def environment(service: dict[str, Any]) -> dict[str, str]:
    return {name: with_defaults(value) for name, value in service.get("environment", {}).items()}


@pytest.mark.parametrize("text", [COMPOSE, CONTAINERFILE, (ROOT / ".ci" / "containers").read_text()])
def test_every_setting_named_is_one(text: str) -> None:
    assert set(re.findall(r"\bMAILING_\w*\w", text)) - NAMES == set()


def test_every_setting_reaches_the_containers() -> None:
    passed = {name for service in PARTS.values() for name in environment(service)}
    assert NAMES - passed == {"MAILING_DATA_DIR", "MAILING_HOST", "MAILING_PORT"}, "the image has no embedded database"


def test_a_value_set_outside_is_handed_on_under_its_own_name() -> None:
    values = [item for service in PARTS.values() for item in service.get("environment", {}).items()]
    assert [name for name, value in values if not value.startswith((f"${{{name}:-", f"${{{name}-"))] == []


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the .env of each service, as the script of `database` writes them at its first start."""
    home = tmp_path_factory.mktemp("first-start")
    program = home / "docker-entrypoint.sh"
    program.write_text('#!/bin/sh\n[ "$1" = postgres ] && echo "$POSTGRES_PASSWORD" >>"$(dirname "$0")/started"\n')
    (home / "chown").write_text("#!/bin/sh\n")
    for each in (program, home / "chown"):
        each.chmod(0o755)
    for part in ("api", "worker"):
        (home / part).mkdir()
    shell, options, script = SERVICES["database"]["entrypoint"]
    for _ in range(2):
        told = subprocess.run(  # noqa: S603 - our own script
            [shell, options, script.replace("$$", "$").replace("/secrets", str(home))],
            env={"PATH": f"{home}:{os.environ['PATH']}"},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        with (home / "told").open("a") as file:
            file.write(told)
    return {each: home / each for each in ("told", "started")} | {
        "api": home / "api" / ".env",
        "worker": home / "worker" / ".env",
        "migrate": home / "worker" / ".env",
    }


def test_secrets_are_made_once_shown_once_and_known_to_nobody_else(made: dict[str, Path]) -> None:
    loaded = settings.load({}, made["api"])
    told = made["told"].read_text()
    assert told.count("Made now") == 1
    assert f"API key: {loaded.api_key} " in told
    assert f"password {loaded.admin_password}" in told
    first, second = made["started"].read_text().split()
    assert first == second == urlsplit(str(loaded.database_url)).password
    assert len({loaded.api_key, loaded.admin_password, first}) == 3
    assert settings.load({}, made["worker"]).api_key is None, "a worker is not told what it need not know"
    assert {oct(made[part].stat().st_mode)[-3:] for part in ("api", "worker")} == {"600"}


def test_no_secret_stands_in_a_file_that_we_ship() -> None:
    loaded = [settings.load(environment(service)) for service in PARTS.values()]
    assert {secret for each in loaded for secret in settings.secrets_of(each)} == {"any-will-do"}, "the sandbox's"


@pytest.mark.parametrize("name", PARTS)
def test_each_part_starts_with_the_defaults(name: str, made: dict[str, Path]) -> None:
    command, *arguments = map(with_defaults, PARTS[name]["command"])
    require_known([command, *arguments])
    loaded = settings.load(environment(PARTS[name]) | {"MAILING_HOST": "0.0.0.0"}, made.get(name))  # noqa: S104 - as in the container
    assert loaded.database_url or command == "sandbox"
    assert loaded.gateway_url or command != "worker"
    assert loaded.report_to or command != "worker", "the report can be seen from the start"


@pytest.mark.parametrize("name", PARTS)
def test_no_default_secret_is_a_word_that_logs_need(name: str) -> None:
    """Each would be masked wherever it stands, in the gateway's address as well."""
    loaded = settings.load(environment(PARTS[name]))
    words = " ".join([*SERVICES, settings.__name__, str(loaded.gateway_url), loaded.smtp_host])
    assert [secret for secret in settings.secrets_of(loaded) if secret in words] == []


@pytest.mark.parametrize("name", BUILT_HERE)
def test_each_part_is_confined(name: str) -> None:
    service = BUILT_HERE[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "user" not in service, "the image's own stands"


def test_an_import_fits_into_the_room_for_temporary_files_and_that_into_the_memory() -> None:
    """It is read into a file; under an Idempotency-Key its body is kept in another one meanwhile."""
    for name, service in BUILT_HERE.items():
        (tmp,) = service["tmpfs"]
        room = re.fullmatch(r"/tmp:size=(\d+)m", tmp)  # noqa: S108 - the container's own
        assert room, name
        assert 2 * MAX_FILE_BYTES < int(room[1]) * 2**20 < 2**30
        assert service["mem_limit"] == "1g"


def test_every_service_comes_back_and_keeps_few_logs() -> None:
    for name, service in SERVICES.items():
        assert service["restart"] == ("on-failure:5" if name == "migrate" else "unless-stopped")
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}
        assert ("healthcheck" in service) == (name != "migrate")


@pytest.mark.parametrize("name", ["api", "worker"])
def test_nothing_starts_on_a_schema_that_is_not_migrated_yet(name: str) -> None:
    assert SERVICES["migrate"]["depends_on"]["database"] == {"condition": "service_healthy"}
    assert "--wait" in SERVICES[name]["command"]


def test_a_worker_may_end_as_slowly_in_containers_as_in_kubernetes() -> None:
    (worker, *_) = yaml.safe_load_all((ROOT / "deploy/kubernetes/worker.yaml").read_text())
    assert worker["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 60
    assert SERVICES["worker"]["stop_grace_period"] == "1m"


def test_the_image_says_which_version_it_is() -> None:
    assert f'org.opencontainers.image.version="{__version__}"' in CONTAINERFILE


def test_ports_are_bound_to_loopback_unless_told_otherwise() -> None:
    ports = [with_defaults(port) for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_the_api_is_asked_where_it_listens() -> None:
    check = SERVICES["api"]["healthcheck"]["test"][-1]
    assert f"'127.0.0.1',{Settings().port}," in check
    assert "'/health/ready'" in check
    compile(check, "health check", "exec")


def test_images_are_tagged_and_run_as_a_numbered_user() -> None:
    stages = re.split(r"^(?=FROM )", CONTAINERFILE, flags=re.MULTILINE)[1:]
    heads = [re.fullmatch(r"FROM (\S+)(?: AS (\S+))?", stage.splitlines()[0]) for stage in stages]
    own = {head[2] for head in heads if head and head[2]}
    from_outside = {head[1] for head in heads if head and head[1] not in own}
    from_outside |= {service["image"] for name, service in SERVICES.items() if name not in BUILT_HERE}
    assert [image for image in from_outside if not re.search(r":\d", image)] == []
    started = [stage for stage in stages if "ENTRYPOINT" in stage]
    assert len(started) == len({service["image"] for service in BUILT_HERE.values()})
    assert [stage for stage in started if not re.search(r"^USER [1-9]\d*:[1-9]\d*$", stage, re.MULTILINE)] == []


def test_what_is_copied_into_the_image_is_in_its_context() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", CONTAINERFILE, flags=re.MULTILINE)
    wanted = {path for line in copied for path in line.split()}
    kept = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), flags=re.MULTILINE)
    assert wanted == set(kept)
    assert [path for path in wanted if not (ROOT / path).exists()] == []


def test_the_image_leaves_out_what_only_development_needs() -> None:
    syncs = re.findall(r"uv sync (.+)", CONTAINERFILE)
    assert [sync for sync in syncs if "--frozen" not in sync] == []
    assert [sync for sync in syncs if "--no-dev" not in sync and "--only-group" not in sync] == []
    named = set(re.findall(r"--(?:all-)?extras?(?: (\w+))?", " ".join(syncs)))
    assert named == {"otel"}, "an embedded PostgreSQL has no business there"

"""Run the pods of this directory by `podman kube play`, on this host's network, and send a mailing through them.

All start together, as docs/kubernetes.md has it: API and workers wait for the migration and for their roles.

    make kubernetes                    # after: docker build or podman build -f Containerfile -t localhost/mailing .
    PODMAN="sudo podman" make kubernetes

Podman knows no Job, so the migration runs as a pod; database and sandbox gateway are pods of its own. Settings and
secrets are made up; all the rest is taken from the files as it stands there.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import yaml  # type: ignore[import-untyped] # Litestar installs it without stubs

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
PODMAN: Final = shlex.split(os.environ.get("PODMAN", "podman"))
KEY: Final = "a-key-for-this-one-try"
DATABASE_PORT, API_PORT, GATEWAY_PORT = 15432, 18000, 18001
OWNER: Final = f"postgresql://mailing:try@127.0.0.1:{DATABASE_PORT}/mailing"
SETTINGS: Final = {
    "MAILING_HOST": "127.0.0.1",
    "MAILING_PORT": str(API_PORT),
    "MAILING_GATEWAY_URL": f"http://127.0.0.1:{GATEWAY_PORT}/v1",
}
SECRETS: Final = {
    "MAILING_API_KEY": KEY,
    "MAILING_ADMIN_PASSWORD": KEY,
    "MAILING_GATEWAY_TOKEN": "sandbox",
}
Object = dict[str, Any]


def tried(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [*PODMAN, *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)  # noqa: S603 - fixed arguments


def podman(*arguments: str, stdin: str | None = None) -> str:
    done = tried(*arguments, stdin=stdin)
    if done.returncode:
        sys.exit(f"podman {shlex.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def objects(name: str, kind: str) -> list[Object]:
    return [each for each in yaml.safe_load_all((HERE / name).read_text()) if each["kind"] == kind]


def pod(name: str, spec: Object) -> Object:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"hostNetwork": True, **spec}}


def database() -> Object:
    env = {"POSTGRES_USER": "mailing", "POSTGRES_PASSWORD": "try", "POSTGRES_DB": "mailing", "LANG": "C.UTF-8"}
    told = [{"name": name, "value": value} for name, value in env.items()]
    server = {"name": "server", "image": "docker.io/library/postgres:17", "args": ["-p", str(DATABASE_PORT)]}
    return pod("try-database", {"containers": [server | {"env": told}]})


def sandbox() -> Object:
    arguments = ["sandbox", "--port", str(GATEWAY_PORT)]
    return pod("try-sandbox", {"containers": [{"name": "run", "image": "localhost/mailing", "args": arguments}]})


def ours() -> Iterator[Object]:
    """Build the pods of the three parts with their confinement, probes, volumes and arguments."""
    for name in ("migrate.yaml", "api.yaml", "worker.yaml"):
        (owner,) = objects(name, "Job" if name == "migrate.yaml" else "Deployment")
        spec = owner["spec"]["template"]["spec"]
        for container in spec["containers"]:
            container.pop("ports", None)  # nothing is published on the host's network
            for probe in (probe for name, probe in container.items() if name.endswith("Probe") and "httpGet" in probe):
                probe["httpGet"]["port"] = API_PORT
            container["env"] = [{"name": each, "value": value} for each, value in told(container.pop("envFrom"))]
        yield pod(f"try-{owner['metadata']['name']}", spec)


def told(sources: list[Object]) -> Iterator[tuple[str, str]]:
    """Build a part's environment from the settings and the secrets that it may read."""
    secrets = {each["metadata"]["name"]: each["stringData"] for each in objects("secrets.example.yaml", "Secret")}
    for source in sources:
        if "configMapRef" in source:
            yield from SETTINGS.items()
        else:
            secret = secrets[source["secretRef"]["name"]]
            role = urlsplit(secret["MAILING_DATABASE_URL"]).username
            yield "MAILING_DATABASE_URL", f"postgresql://{role}:try@127.0.0.1:{DATABASE_PORT}/mailing"
            yield from ((name, SECRETS[name]) for name in secret if name in SECRETS)


@contextmanager
def playing(pods: list[Object]) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "pods.yaml")
        file.write_text(yaml.safe_dump_all(pods))
        try:
            podman("kube", "play", "--replace", str(file))
            yield
        finally:
            tried("kube", "down", str(file))


def asked(path: str, body: bytes | None = None, kind: str = "application/json") -> Any:  # noqa: ANN401 - JSON
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": kind}
    request = urllib.request.Request(f"http://127.0.0.1:{API_PORT}{path}", body, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - our own address
        return json.load(answer)


def within(seconds: float, holds: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + seconds
    while True:
        try:
            if holds():
                return
        except OSError:
            pass
        if time.monotonic() > give_up_at:
            for each in ("try-migrate-migrate", "try-api-api", "try-worker-worker"):
                print(podman("logs", "--tail", "20", each))
            sys.exit(f"not within {seconds:.0f} s: {holds.__name__}")
        time.sleep(0.5)


def is_migrated() -> bool:
    (found,) = json.loads(podman("inspect", "try-migrate-migrate"))
    return bool(found["State"]["Status"] == "exited" and found["State"]["ExitCode"] == 0)


def make_roles() -> None:
    """Create the roles as the documented psql commands do, with one password for both."""
    passwords = "".join(f"ALTER ROLE {role} PASSWORD 'try';" for role in ("mailing_api", "mailing_worker"))
    psql = ("exec", "-i", "try-database-server", "psql", OWNER, "-v", "ON_ERROR_STOP=1")
    podman(*psql, stdin=(ROOT / "deploy/roles.sql").read_text() + passwords)


def is_ready() -> bool:
    return bool(asked("/health/ready")["status"] == "ok")


def is_finished() -> bool:
    counts = asked("/mailing/api/statistics/1/?limit=1")
    return bool(counts["status"] == "finished" and counts["counts"]["sent"] == 1000)


def sign_in() -> None:
    form = urlencode({"name": "admin", "password": KEY}).encode()
    site = f"http://127.0.0.1:{API_PORT}"
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with browser.open(urllib.request.Request(f"{site}/admin/sign-in", form, {"Origin": site}), timeout=30) as answer:  # noqa: S310 - our own address
        assert 'action="/admin/sign-out"' in answer.read().decode()


def check_confinement(container: str) -> None:
    (found,) = json.loads(podman("inspect", container))
    assert found["Config"]["User"] == "10001:10001", found["Config"]["User"]
    assert found["HostConfig"]["ReadonlyRootfs"] is True
    assert not found["EffectiveCaps"], found["EffectiveCaps"]


def main() -> None:
    with playing([database(), sandbox(), *ours()]):
        within(180, is_migrated)
        make_roles()
        within(180, is_ready)
        sign_in()
        clients = (ROOT / "src/mailing/sample/clients.csv").read_bytes()
        assert asked("/mailing/api/clients/import", clients, "text/csv")["created"] == 1000
        mailing = {"text": "Hello", "starts_at": "2026-01-01T00:00:00Z", "ends_at": "2099-01-01T00:00:00Z"}
        asked("/mailing/api/mailings/", json.dumps(mailing).encode())
        within(120, is_finished)
        for container in ("try-api-api", "try-worker-worker"):
            check_confinement(container)
        podman("exec", "try-worker-worker", "python", "-m", "mailing.process.heartbeat")
        print(podman("exec", "try-worker-worker", "mailing", "doctor"), end="")
    print("kubernetes: migrated, started and confined as the files say; signed in, 1,000 messages sent")


if __name__ == "__main__":
    main()

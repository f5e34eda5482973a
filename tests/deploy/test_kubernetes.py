"""deploy/kubernetes against Kubernetes' own schemas, and against the program that it runs."""

import ipaddress
import re
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml  # type: ignore[import-untyped] # comes with Litestar, its stubs don't

from mailing import __version__, settings
from mailing.admin.clients.uploading import MAX_BODY_BYTES
from mailing.app import CONNECTIONS as API_CONNECTIONS
from mailing.app import create_app
from mailing.clients.upload.actions import MAX_FILE_BYTES
from mailing.errors import ConfigurationError
from mailing.settings import PREFIX, Settings
from support import ROOT
from support.command_lines import require_known

DIRECTORY = ROOT / "deploy" / "kubernetes"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((DIRECTORY / "kustomization.yaml").read_text())
EVERYWHERE = {"MAILING_HOST": "0.0.0.0"}  # noqa: S104 - the image's
VERSIONS = ("1.29", "1.37")  # the oldest and the newest whose schemas are at hand


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DIRECTORY / name).read_text()))


ON_DEMAND = "network-oidc.yaml"
FILES = [*KUSTOMIZATION["resources"], ON_DEMAND, "secrets.example.yaml"]
OBJECTS = {(each["kind"], each["metadata"]["name"]): each for name in FILES for each in documents(name)}
POD_OWNERS = {name: each for (kind, name), each in OBJECTS.items() if kind in {"Deployment", "Job"}}


def pod(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = POD_OWNERS[name]["spec"]["template"]["spec"]
    return spec


def container(name: str) -> dict[str, Any]:
    (only,) = pod(name)["containers"]
    return dict(only)


def environment(name: str) -> dict[str, str]:
    """Return the pod's environment, from the manifest and the example secrets."""
    told: dict[str, str] = {}
    for source in container(name)["envFrom"]:
        (kind, reference), *_ = source.items()
        found = OBJECTS["ConfigMap" if kind == "configMapRef" else "Secret", reference["name"]]
        told |= found.get("data", {}) | found.get("stringData", {})
    return told


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("key", OBJECTS, ids="/".join)
def test_kubernetes_knows_every_field(key: tuple[str, str], version: str) -> None:
    kubernetes_validate.validate(OBJECTS[key], version, strict=True)


def test_every_file_is_applied_and_the_secrets_are_not() -> None:
    written = {path.name for path in DIRECTORY.glob("*.yaml")}
    others = {"kustomization.yaml", ON_DEMAND, "secrets.example.yaml", "postgres.yaml"}  # the last by its own test
    assert written - set(KUSTOMIZATION["resources"]) == others
    assert f"# - {ON_DEMAND}" in (DIRECTORY / "kustomization.yaml").read_text()
    assert {name for kind, name in OBJECTS if kind == "Secret"} == {"mailing-migrate", "mailing-api", "mailing-worker"}
    assert {image["name"] for image in KUSTOMIZATION["images"]} == {container(name)["image"] for name in POD_OWNERS}


def test_the_image_is_of_this_version() -> None:
    assert [image["newTag"] for image in KUSTOMIZATION["images"]] == [__version__]
    assert f"mailing:{__version__} " in (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", POD_OWNERS)
def test_each_pod_is_confined(name: str) -> None:
    assert pod(name)["securityContext"]["runAsNonRoot"] is True
    assert pod(name)["securityContext"]["runAsUser"] == 10001
    assert "USER 10001:10001" in (ROOT / "Containerfile").read_text()
    assert pod(name)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod(name)["automountServiceAccountToken"] is False
    assert container(name)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container(name)["resources"].keys() == {"requests", "limits"}


@pytest.mark.parametrize("name", POD_OWNERS)
def test_each_pod_starts_with_what_it_is_told(name: str) -> None:
    require_known(container(name)["args"])
    loaded = settings.load(filled_in(environment(name)))
    assert loaded.database_url
    assert loaded.gateway_url or name != "worker"
    assert pod(name)["enableServiceLinks"] is False, "a Service named mailing would set MAILING_PORT"


def filled_in(told: dict[str, str]) -> dict[str, str]:
    """Replace the example's secrets, as an operator does."""
    return EVERYWHERE | {name: value.replace("CHANGE-ME", "of-our-own") for name, value in told.items()}


@pytest.mark.parametrize("name", POD_OWNERS)
def test_no_pod_starts_with_the_secrets_of_the_example(name: str) -> None:
    with pytest.raises(ConfigurationError, match="is a published example"):
        settings.load(EVERYWHERE | environment(name))


def test_each_part_gets_the_secrets_that_it_needs() -> None:
    api = {"MAILING_API_KEY", "MAILING_ADMIN_PASSWORD"}
    worker = {"MAILING_GATEWAY_TOKEN", "MAILING_SMTP_PASSWORD"}
    assert environment("migrate").keys() == {"MAILING_DATABASE_URL"}
    assert environment("api").keys() & (api | worker) == api
    assert environment("worker").keys() & (api | worker) == worker
    roles = {name: urlsplit(environment(name)["MAILING_DATABASE_URL"]).username for name in POD_OWNERS}
    assert roles == {"migrate": "mailing", "api": "mailing_api", "worker": "mailing_worker"}
    assert {"mailing_api", "mailing_worker"} <= set(re.findall(r"\w+", (ROOT / "deploy/roles.sql").read_text()))


def test_every_setting_named_is_one() -> None:
    known = {PREFIX + name.upper() for name in Settings.__struct_fields__}
    for path in [*DIRECTORY.glob("*.yaml"), ROOT / "docs" / "kubernetes.md"]:
        assert set(re.findall(r"\bMAILING_\w*\w", path.read_text())) - known == set()


def test_what_is_commented_out_can_be_switched_on() -> None:
    """The identity provider's settings and the declaration of failovers make a whole that the API starts with."""
    written = [(DIRECTORY / name).read_text() for name in ("settings.yaml", "secrets.example.yaml")]
    switched = dict(re.findall(r"^  # (MAILING_\w+): (.+)$", "".join(written), re.MULTILINE))
    signing_in = {f"MAILING_OIDC_{name}" for name in ("ISSUER", "CLIENT_ID", "ROLES", "CLIENT_SECRET")}
    assert switched.keys() == signing_in | {"MAILING_FAILOVER"}
    assert settings.load(filled_in(environment("api") | switched)).oidc_issuer
    allowed = OBJECTS["NetworkPolicy", "identity-provider"]["spec"]
    assert allowed["podSelector"]["matchLabels"] == POD_OWNERS["api"]["spec"]["template"]["metadata"]["labels"]
    assert {port["port"] for rule in allowed["egress"] for port in rule["ports"]} == {443}


def test_the_proxy_in_front_is_believed_about_https_and_nobody_outside_is() -> None:
    """Uvicorn reads the variable itself."""
    told = environment("api")["FORWARDED_ALLOW_IPS"].split(",")
    networks = [ipaddress.ip_network(each) for each in told]
    assert networks
    assert [network for network in networks if not network.is_private] == []


@pytest.mark.parametrize("name", ["api", "worker"])
def test_imports_fit_into_the_room_for_temporary_files(name: str) -> None:
    (tmp,) = pod(name)["volumes"]
    assert tmp == {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}, "memory would count against the pod's limit"
    assert 4 * MAX_FILE_BYTES < 2**30
    body = OBJECTS["Ingress", "mailing"]["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"]
    assert int(body.removesuffix("m")) * 2**20 >= MAX_BODY_BYTES


def test_probes_ask_what_answers() -> None:
    app = create_app(Settings(database_url="postgresql://nobody@127.0.0.1:1/none"))
    routes = {route.path for route in app.routes}
    probes = {name: container("api")[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe["path"] for probe in probes.values()} <= routes
    assert {probe["port"] for probe in probes.values()} == {"http"}
    assert container("api")["ports"] == [{"name": "http", "containerPort": Settings().port}]
    assert container("worker")["livenessProbe"]["exec"]["command"] == ["python", "-m", "mailing.process.heartbeat"]


@pytest.mark.parametrize("name", ["api", "worker"])
def test_a_pod_may_take_as_long_to_start_as_it_waits_for_the_migration(name: str) -> None:
    probe = container(name)["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= float(container(name)["args"][2]) + 30


@pytest.mark.parametrize(("kind", "selecting"), [("Service", "selector"), ("PodDisruptionBudget", "matchLabels")])
def test_selectors_select_the_pods_of_one_part(kind: str, selecting: str) -> None:
    found = [each["spec"]["selector"] for (each_kind, _), each in OBJECTS.items() if each_kind == kind]
    labels = [selector if selecting == "selector" else selector["matchLabels"] for selector in found]
    pods = [owner["spec"]["template"]["metadata"]["labels"] for owner in POD_OWNERS.values()]
    assert labels
    assert [label for label in labels if pods.count(label) != 1] == []


def test_only_the_api_can_be_reached_and_not_its_metrics_from_outside() -> None:
    policies = {name: each["spec"] for (kind, name), each in OBJECTS.items() if kind == "NetworkPolicy"}
    assert policies["nothing"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    reached = [policy["podSelector"]["matchLabels"] for policy in policies.values() if policy.get("ingress")]
    assert [labels["app.kubernetes.io/component"] for labels in reached] == ["api"]
    (rule,) = OBJECTS["Ingress", "mailing"]["spec"]["rules"]
    assert {path["path"] for path in rule["http"]["paths"]} == {"/mailing", "/docs", "/admin", "/static"}
    assert {path["backend"]["service"]["name"] for path in rule["http"]["paths"]} == {"api"}


def test_the_autoscaler_scales_workers_and_nobody_else_says_how_many() -> None:
    scaler = OBJECTS["HorizontalPodAutoscaler", "worker"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == "worker"
    assert "replicas" not in POD_OWNERS["worker"]["spec"]
    assert 19 * scaler["maxReplicas"] + API_CONNECTIONS * POD_OWNERS["api"]["spec"]["replicas"] <= 97, (
        "max_connections, less 3"
    )

"""deploy/kubernetes/postgres.yaml against CloudNativePG's own schemas, and against what docs/cluster.md demands."""

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped] # comes with kubernetes-validate
import pytest
import yaml  # type: ignore[import-untyped] # comes with Litestar, its stubs don't

from mailing.app import CONNECTIONS as API_CONNECTIONS
from mailing.worker import LONG_POOL, SENDING_POOL, SHORT_POOL, URGENT_POOL
from support import ROOT

MANIFEST = ROOT / "deploy" / "kubernetes" / "postgres.yaml"
SCHEMAS: dict[str, Any] = json.loads((ROOT / "tests" / "deploy" / "cloudnativepg.json").read_text())
OBJECTS: dict[str, dict[str, Any]] = {each["kind"]: each for each in yaml.safe_load_all(MANIFEST.read_text())}
CUSTOM = sorted(OBJECTS.keys() - {"Namespace"})


@pytest.mark.parametrize("kind", CUSTOM)
def test_the_operator_knows_every_field(kind: str) -> None:
    found = OBJECTS[kind]
    jsonschema.validate(found, SCHEMAS[f"{found['apiVersion']}/{kind}"])


def test_a_field_that_is_not_known_is_noticed() -> None:
    found = OBJECTS["Cluster"]
    wrong = found | {"spec": found["spec"] | {"instanses": 3}}
    with pytest.raises(jsonschema.ValidationError, match="instanses"):
        jsonschema.validate(wrong, SCHEMAS["postgresql.cnpg.io/v1/Cluster"])


def test_its_failovers_lose_nothing_and_it_survives_the_loss_of_a_node() -> None:
    spec = OBJECTS["Cluster"]["spec"]
    synchronous = spec["postgresql"]["synchronous"]
    assert (synchronous["dataDurability"], synchronous["failoverQuorum"]) == ("required", True)
    assert spec["instances"] - 1 > synchronous["number"] >= 1, "one standby may be away"
    assert spec["affinity"]["podAntiAffinityType"] == "required"
    assert spec["bootstrap"]["initdb"]["encoding"] == "UTF8"


def test_it_is_backed_up_where_its_backups_are_kept() -> None:
    (plugin,) = OBJECTS["Cluster"]["spec"]["plugins"]
    assert plugin["isWALArchiver"]
    assert plugin["parameters"]["barmanObjectName"] == OBJECTS["ObjectStore"]["metadata"]["name"]
    assert OBJECTS["ScheduledBackup"]["spec"]["pluginConfiguration"]["name"] == plugin["name"]
    assert OBJECTS["ScheduledBackup"]["spec"]["cluster"]["name"] == OBJECTS["Cluster"]["metadata"]["name"]
    assert {each["metadata"].get("namespace", "mailing-database") for each in OBJECTS.values()} == {"mailing-database"}


def test_there_are_connections_for_all_pods() -> None:
    manifests = {
        name: list(yaml.safe_load_all((MANIFEST.parent / f"{name}.yaml").read_text())) for name in ("api", "worker")
    }
    queue = 5  # the pool of the job queue, and LISTEN
    each = {"api": API_CONNECTIONS, "worker": LONG_POOL + SENDING_POOL + SHORT_POOL + URGENT_POOL + queue}
    wanted = sum(each[name] * _most(manifests[name]) for name in each)
    assert int(OBJECTS["Cluster"]["spec"]["postgresql"]["parameters"]["max_connections"]) >= wanted + 20


def _most(documents: list[dict[str, Any]]) -> int:
    counts: dict[str, int] = {
        each["kind"]: each["spec"].get("maxReplicas") or each["spec"].get("replicas", 0) for each in documents
    }
    return counts.get("HorizontalPodAutoscaler") or counts["Deployment"]

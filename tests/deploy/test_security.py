"""Pods may do no more than they must, and what may reach what is the chain."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import pytest

from tests.deploy.conftest import Manifests, labels, pod

CHAIN = {
    ("client", "decoder", "grpc"),
    ("client", "gateway", "http"),
    ("gateway", "decoder", "grpc"),
    ("gateway", "retriever", "grpc"),
    ("gateway", "retriever-reader", "grpc"),
    ("gateway", "encoder", "grpc"),
    ("bank-client", "retriever", "grpc"),
    ("bank-client", "retriever-reader", "grpc"),
    ("decoder", "retriever", "grpc"),
    ("decoder", "retriever-reader", "grpc"),
    ("retriever", "encoder", "grpc"),
    ("retriever-reader", "encoder", "grpc"),
    ("retriever", "redis", "redis"),
    ("retriever-reader", "redis", "redis"),
    ("redis", "redis", "redis"),
    ("redis", "redis", "bus"),
    *(
        ("prometheus", to, "metrics")
        for to in ("decoder", "retriever", "retriever-reader", "encoder", "gateway")
    ),
}


def test_containers_are_restricted(manifests: Manifests) -> None:
    """No root, no capabilities, no writable root, no token, in init containers as well."""
    for workload in manifests.workloads:
        spec = pod(workload)
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] >= 10_000
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        for container in spec["containers"] + spec.get("initContainers", []):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            for kind in ("requests", "limits"):
                assert {"cpu", "memory"} <= container["resources"][kind].keys()
    for account in manifests.of("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


def test_images_are_of_one_version(manifests: Manifests) -> None:
    """A tag that is no moving name, or a digest."""
    for workload in manifests.workloads:
        for container in pod(workload)["containers"] + pod(workload).get("initContainers", []):
            assert re.search(r"(:\d+\.\d+\.\d+(-\w+)?|@sha256:[0-9a-f]{64})$", container["image"])


def test_the_writer_is_alone(manifests: Manifests) -> None:
    """One retriever has the volume, which no second pod can mount and which outlives it."""
    writer = manifests.get("StatefulSet", "retriever")["spec"]
    assert writer["replicas"] == 1
    assert writer["volumeClaimTemplates"][0]["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert writer["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain"


def test_allowed_traffic_is_the_chain(rendered: dict[str, Manifests]) -> None:
    """Between all pods of the whole, clients and strangers: what both ends' policies allow."""
    manifests = rendered["production"]
    outside = {
        "client": ({"memory3/client": "true"}, {"memory3/client": "true"}),
        "bank-client": ({"memory3/bank-client": "true"}, {"memory3/bank-client": "true"}),
        "prometheus": (
            {"app.kubernetes.io/name": "prometheus"},
            {"kubernetes.io/metadata.name": "monitoring"},
        ),
        "stranger": ({"app.kubernetes.io/name": "decoder"}, {"kubernetes.io/metadata.name": "x"}),
    }
    inside = {w["metadata"]["name"]: labels(w) for w in manifests.workloads}
    ports = {
        w["metadata"]["name"]: [p["name"] for c in pod(w)["containers"] for p in c.get("ports", [])]
        for w in manifests.workloads
    }
    policies = manifests.of("NetworkPolicy")
    allowed = set()
    for source, target in product([*inside, *outside], inside):
        for port in ports[target]:
            coming = outside.get(source) or (inside[source], None)
            enters = _allows(policies, "Ingress", inside[target], coming, port)
            leaves = source in outside or _allows(
                policies, "Egress", inside[source], (inside[target], None), port
            )
            if enters and leaves:
                allowed.add((source, target, port))
    assert allowed == CHAIN


def test_beyond_the_namespace_there_are_names_and_storage(rendered: dict[str, Manifests]) -> None:
    """Nothing leaves for elsewhere but questions to DNS, HTTPS, and spans to the collector."""
    found = set()
    for policy in rendered["production"].of("NetworkPolicy"):
        for rule in policy["spec"].get("egress", []):
            if any("ipBlock" in peer or "namespaceSelector" in peer for peer in rule["to"]):
                found |= {(policy["metadata"]["name"], port["port"]) for port in rule["ports"]}
    assert found == {("names", 53), ("storage", 443), ("traces", 4317)}


@pytest.mark.parametrize("name", ["production", "together"])
def test_production_asks_for_tokens_over_tls(rendered: dict[str, Manifests], name: str) -> None:
    """Each service has a certificate of its own and the tokens; what is named is mounted."""
    manifests = rendered[name]
    services = [w for w in manifests.workloads if w["metadata"]["name"] != "redis"]
    assert len(services) == 5
    for workload in services:
        name, container = workload["metadata"]["name"], pod(workload)["containers"][0]
        prefix = f"MEMORY3_{name.partition('-')[0].upper()}_"
        given: dict[str, str] = {}
        for source in container["envFrom"]:
            if "configMapRef" in source:
                given |= manifests.get("ConfigMap", source["configMapRef"]["name"])["data"]
        secrets = {v["name"]: v["secret"] for v in pod(workload)["volumes"] if "secret" in v}
        assert secrets["tls"]["secretName"] == f"{name}-tls"
        mounted = {
            mount["mountPath"]: secrets[mount["name"]]
            for mount in container["volumeMounts"]
            if mount["name"] in secrets
        }
        files = {k: v for k, v in given.items() if v.startswith("/run/secrets/")}
        for variable, path in files.items():
            if variable.startswith(prefix):
                folder, _, file = path.rpartition("/")
                items = mounted[folder].get("items", [])
                assert not items or file in {item["path"] for item in items}, variable
        calls = name != "encoder"
        assert (f"{prefix}PEER_TLS_CA" in given) is calls
        assert given[f"{prefix}INSECURE"] == "false"
        assert {f"{prefix}TOKENS_FILE", f"{prefix}TLS_CERT", f"{prefix}TLS_KEY"} <= files.keys()
        assert "tokens" in secrets
        # Its own token is for the encoder; a decoder hands on its callers'.
        assert ("peer-token" in secrets) is name.startswith("retriever")
        assert f"{prefix}PEER_TOKEN_FILE" not in given or name.startswith("retriever")


def _allows(
    policies: list[dict[str, Any]],
    direction: str,
    subject: dict[str, str],
    peer: tuple[dict[str, str], dict[str, str] | None],
    port: str,
) -> bool:
    """Whether a pod may be reached from, or reach, a peer; None is the pod's own namespace."""
    mine = [
        policy["spec"]
        for policy in policies
        if direction in policy["spec"]["policyTypes"]
        and _matches(policy["spec"]["podSelector"], subject)
    ]
    assert mine, "the default closes every pod"
    side = {"Ingress": "from", "Egress": "to"}[direction]
    return any(
        any(each["port"] == port for each in rule["ports"])
        and any(_is_peer(each, *peer) for each in rule[side])
        for spec in mine
        for rule in spec.get(direction.lower(), [])
    )


def _is_peer(
    rule: dict[str, Any], pod_labels: dict[str, str], space: dict[str, str] | None
) -> bool:
    if "ipBlock" in rule or ("namespaceSelector" in rule) != (space is not None):
        return False
    return _matches(rule["podSelector"], pod_labels) and (
        space is None or _matches(rule["namespaceSelector"], space)
    )


def _matches(selector: dict[str, Any], pod_labels: dict[str, str]) -> bool:
    wanted = selector.get("matchLabels", {}).items()
    return wanted <= pod_labels.items() and all(
        each["operator"] == "In" and pod_labels.get(each["key"]) in each["values"]
        for each in selector.get("matchExpressions", [])
    )

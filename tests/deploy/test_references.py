"""What manifests say of each other holds, and what they tell the services is what these take."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from memory3_decoder.metrics import DecoderMetrics
from memory3_decoder.settings import DecoderSettings
from memory3_encoder.settings import EncoderSettings
from memory3_gateway.settings import GatewaySettings
from memory3_retriever.settings import RetrieverSettings
from prometheus_client import CollectorRegistry

from memory3.rpc.health import LIVENESS, READINESS
from memory3.rpc.options import ServerOptions
from memory3.settings import ServiceSettings
from tests.deploy.conftest import NAMES, ROOT, Manifests, labels, pod

SETTINGS: dict[str, type[ServiceSettings]] = {
    "decoder": DecoderSettings,
    "encoder": EncoderSettings,
    "retriever": RetrieverSettings,
    "retriever-reader": RetrieverSettings,
    "gateway": GatewaySettings,
}


def _given(manifests: Manifests, workload: dict[str, Any]) -> dict[str, str]:
    """The variables of a service's container, as the kubelet would set them."""
    container = pod(workload)["containers"][0]
    variables: dict[str, str] = {}
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            variables |= manifests.get("ConfigMap", source["configMapRef"]["name"])["data"]
    return variables | {each["name"]: each["value"] for each in container.get("env", [])}


def _own(manifests: Manifests, workload: dict[str, Any]) -> dict[str, str]:
    """Those with the service's own prefix; settings of the whole reach every pod."""
    prefix = str(SETTINGS[workload["metadata"]["name"]].model_config["env_prefix"])
    given = _given(manifests, workload)
    prefixes = {str(each.model_config["env_prefix"]) for each in SETTINGS.values()}
    assert all(name.startswith(tuple(prefixes)) for name in given)
    return {name: value for name, value in given.items() if name.startswith(prefix)}


def _speaks_grpc(workload: dict[str, Any]) -> bool:
    return workload["metadata"]["name"] != "gateway"


def _services(manifests: Manifests) -> list[dict[str, Any]]:
    return [each for each in manifests.workloads if each["metadata"]["name"] in SETTINGS]


def _load(
    manifests: Manifests, workload: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> ServiceSettings:
    settings = SETTINGS[workload["metadata"]["name"]]
    for name, value in _given(manifests, workload).items():
        monkeypatch.setenv(name, value)
    return settings.load()


def test_every_rendering_is_there(rendered: dict[str, Manifests]) -> None:
    """Overlays, components and all of them together render, so no test passes for emptiness."""
    assert sorted(rendered) == NAMES
    for name in ("production", "together"):
        assert {w["metadata"]["name"] for w in rendered[name].workloads} == {*SETTINGS, "redis"}
    whole = rendered["together"]
    told = _given(whole, whole.get("Deployment", "decoder")).keys()
    parts = ("TLS_CERT", "TOKENS_FILE", "TRACE_ENDPOINT", "DEVICE")
    assert {f"MEMORY3_DECODER_{part}" for part in parts} <= told


def test_settings_are_the_services_own(
    manifests: Manifests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every variable is a setting, and every value one that the service starts with."""
    for workload in _services(manifests):
        settings = SETTINGS[workload["metadata"]["name"]]
        known = {settings.variable(field) for field in settings.model_fields}
        assert set(_own(manifests, workload)) - known == set()
        loaded = _load(manifests, workload, monkeypatch)
        assert loaded.host == "0.0.0.0"
        assert (loaded.max_connection_age_s > 0) is _speaks_grpc(workload)
        # It starts: a public address has authentication, or was said to be insecure.
        ServerOptions.from_settings("memory3.test", loaded)
        assert loaded.insecure is (loaded.tokens_file is None)


def test_ports_are_those_the_service_listens_on(
    manifests: Manifests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Container ports are the settings', and Services lead to ports that are there by name."""
    for workload in _services(manifests):
        loaded = _load(manifests, workload, monkeypatch)
        ports = {p["name"]: p["containerPort"] for p in pod(workload)["containers"][0]["ports"]}
        wanted = {"metrics": loaded.metrics_port}
        wanted["grpc" if _speaks_grpc(workload) else "http"] = loaded.port
        if loaded.health_port:
            wanted["health"] = loaded.health_port
        assert ports == wanted
    for service in manifests.of("Service"):
        # gRPC clients must see every pod, HTTP clients need not.
        assert ("clusterIP" in service["spec"]) is (service["metadata"]["name"] != "gateway")
        behind = [w for w in manifests.workloads if service["spec"]["selector"] == _name(w)]
        assert len(behind) == 1, service["metadata"]["name"]
        names = {p["name"] for c in pod(behind[0])["containers"] for p in c.get("ports", [])}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names


def _name(workload: dict[str, Any]) -> dict[str, str]:
    return {"app.kubernetes.io/name": labels(workload)["app.kubernetes.io/name"]}


def test_probes_ask_what_the_services_answer(manifests: Manifests) -> None:
    """Three probes in plaintext: on the service's port, or with TLS on that of health alone."""
    for workload in _services(manifests):
        container = pod(workload)["containers"][0]
        if not _speaks_grpc(workload):
            asked = {kind: container[kind]["httpGet"] for kind in container if "Probe" in kind}
            name = "health" if "MEMORY3_GATEWAY_TLS_CERT" in _own(manifests, workload) else "http"
            assert asked == {
                "startupProbe": {"port": name, "path": "/health"},
                "readinessProbe": {"port": name, "path": "/ready"},
                "livenessProbe": {"port": name, "path": "/health"},
            }
            continue
        prefix = SETTINGS[workload["metadata"]["name"]].model_config["env_prefix"]
        given = _own(manifests, workload)
        speaks_tls = f"{prefix}TLS_CERT" in given
        port = int(given[f"{prefix}HEALTH_PORT" if speaks_tls else f"{prefix}PORT"])
        asked = {kind: container[kind]["grpc"] for kind in container if kind.endswith("Probe")}
        assert asked == {
            "startupProbe": {"port": port, "service": READINESS},
            "readinessProbe": {"port": port, "service": READINESS},
            "livenessProbe": {"port": port, "service": LIVENESS},
        }


def test_pods_are_given_time_to_leave(
    manifests: Manifests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kubelet kills later than the service needs for pause, draining and grace together."""
    for workload in _services(manifests):
        loaded = _load(manifests, workload, monkeypatch)
        pause = pod(workload)["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        needed = pause + loaded.drain_seconds + loaded.grace_seconds
        assert pod(workload)["terminationGracePeriodSeconds"] > needed


def test_new_pods_are_known_before_old_ones_leave(
    manifests: Manifests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients look names up when connections close: sooner than a new pod counts as there."""
    replicated = [
        workload
        for workload in _services(manifests)
        if workload["spec"].get("minReadySeconds") is not None
    ]
    assert {"decoder", "encoder"} <= {workload["metadata"]["name"] for workload in replicated}
    for workload in replicated:
        loaded = _load(manifests, workload, monkeypatch)
        assert 0 < 1.1 * loaded.max_connection_age_s < workload["spec"]["minReadySeconds"]
        assert loaded.drain_seconds >= 1


def test_addresses_are_names_of_services(manifests: Manifests) -> None:
    """Whom a service calls is a headless Service of the same rendering, found again by DNS."""
    ports = {
        f"dns:///{service['metadata']['name']}:{port['port']}"
        for service in manifests.of("Service")
        for port in service["spec"]["ports"]
        if port["name"] == "grpc"
    }
    called = [
        value
        for workload in _services(manifests)
        for name, value in _given(manifests, workload).items()
        if re.fullmatch(r"MEMORY3_[A-Z]+_(DECODER|RETRIEVER|ENCODER)", name)
    ]
    assert len(called) >= 2
    assert set(called) <= ports


def test_what_pods_name_is_there(manifests: Manifests) -> None:
    """Accounts, ConfigMaps with their keys, and volumes that containers mount."""
    for workload in manifests.workloads:
        spec = pod(workload)
        manifests.get("ServiceAccount", spec["serviceAccountName"])
        claims = {
            claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])
        }
        volumes = {volume["name"] for volume in spec["volumes"]} | claims
        for volume in spec["volumes"]:
            if "configMap" in volume:
                manifests.get("ConfigMap", volume["configMap"]["name"])
        for container in spec["containers"] + spec.get("initContainers", []):
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("configMapKeyRef")
                if reference:
                    assert reference["key"] in manifests.get("ConfigMap", reference["name"])["data"]


def test_selectors_find_their_pods(manifests: Manifests) -> None:
    """Workloads, budgets, spreading and scaling point at pods that are there."""
    everybody = [labels(workload) for workload in manifests.workloads]
    for workload in manifests.workloads:
        assert workload["spec"]["selector"]["matchLabels"] == _name(workload)
        for spread in pod(workload).get("topologySpreadConstraints", []):
            assert spread["labelSelector"]["matchLabels"] == _name(workload)
    for budget in manifests.of("PodDisruptionBudget"):
        wanted = budget["spec"]["selector"]["matchLabels"].items()
        assert any(wanted <= each.items() for each in everybody)
    for scaler in manifests.of("HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        assert "replicas" not in manifests.get(target["kind"], target["name"])["spec"]


def test_disruptions_are_bounded_and_pods_are_spread(manifests: Manifests) -> None:
    """Each service has a budget, and what has more than one pod spreads over zones and nodes."""
    budgets = [
        budget["spec"]["selector"]["matchLabels"].items()
        for budget in manifests.of("PodDisruptionBudget")
        if budget["spec"]["maxUnavailable"] <= 1
    ]
    for workload in _services(manifests):
        assert any(wanted <= labels(workload).items() for wanted in budgets)
        if workload["kind"] == "Deployment":
            spread = {each["topologyKey"] for each in pod(workload)["topologySpreadConstraints"]}
            assert spread == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}


def test_the_checkpoint_is_fetched_by_digest(manifests: Manifests) -> None:
    """Each service waits for the command that verifies it, and reads where that puts it."""
    digest = json.loads((ROOT / "checkpoints/small/manifest.json").read_text())["digest"]
    for workload in filter(_speaks_grpc, _services(manifests)):
        (fetch,) = pod(workload)["initContainers"]
        assert fetch["args"] == [
            "memory3", "checkpoint", "fetch", "$(CHECKPOINT_URL)",
            "--digest", "$(CHECKPOINT_DIGEST)", "--to", "/checkpoint/current",
        ]  # fmt: skip
        source = fetch["env"][1]["valueFrom"]["configMapKeyRef"]
        assert manifests.get("ConfigMap", source["name"])["data"][source["key"]] == digest


def test_a_pod_that_does_not_become_ready_takes_nobodys_place(manifests: Manifests) -> None:
    """A rollout to what cannot be loaded leaves the old pods serving, until it is undone.

    Where each pod has a GPU there is no room for one more, so one leaves before; not a second.
    """
    for workload in filter(lambda each: each["kind"] == "Deployment", _services(manifests)):
        strategy = workload["spec"]["strategy"]["rollingUpdate"]
        limits = pod(workload)["containers"][0]["resources"]["limits"]
        if "nvidia.com/gpu" in limits:
            assert strategy == {"maxSurge": 0, "maxUnavailable": 1}
        else:
            assert strategy == {"maxSurge": 1, "maxUnavailable": 0}


def test_redis_is_a_bounded_cache(rendered: dict[str, Manifests]) -> None:
    """It forgets what was used longest ago before its pod is too large; nothing goes to disk."""
    manifests = rendered["production"]
    redis = manifests.get("StatefulSet", "redis")
    told = manifests.get("ConfigMap", _config_of(redis))["data"]["redis.conf"]
    settings = dict(
        line.split(maxsplit=1)
        for line in told.splitlines()
        if line and not line.startswith("#") and " " in line
    )
    assert settings["maxmemory-policy"] == "allkeys-lru"
    assert (settings["save"], settings["appendonly"]) == ('""', "no")
    limit = next(c for c in pod(redis)["containers"] if c["name"] == "redis")["resources"]["limits"]
    bounded = re.fullmatch(r"(\d+)gb", settings["maxmemory"])
    allowed = re.fullmatch(r"(\d+)Gi", limit["memory"])
    assert bounded is not None
    assert allowed is not None
    assert int(bounded[1]) < int(allowed[1])


def _config_of(workload: dict[str, Any]) -> str:
    (name,) = [v["configMap"]["name"] for v in pod(workload)["volumes"] if "configMap" in v]
    return str(name)


def test_decoders_scale_on_a_metric_that_they_have(rendered: dict[str, Manifests]) -> None:
    """What the scaler asks for is what the adapter's rule gives, and what a decoder registers."""
    scaler = rendered["production"].get("HorizontalPodAutoscaler", "decoder")
    (metric,) = scaler["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    text = (ROOT / "deploy/components/autoscaling/prometheus-adapter.yaml").read_text()
    (rule,) = yaml.safe_load(text)["rules"]["custom"]
    assert rule["name"]["as"] == name
    assert rule["seriesQuery"].startswith(f"{name}{{")
    registry = CollectorRegistry()
    DecoderMetrics(registry)
    assert name in {family.name for family in registry.collect()}

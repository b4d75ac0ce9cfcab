"""The service around the methods: settings, start-up, and what it must not import."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from memory3_retriever.loading import load
from memory3_retriever.metrics import RetrieverMetrics
from memory3_retriever.service import RetrieverService
from memory3_retriever.settings import RetrieverSettings
from prometheus_client import CollectorRegistry

from memory3.checkpoint import Checkpoint
from memory3.errors import (
    CheckpointError,
    InvalidArgumentError,
    LoadingError,
    Memory3Error,
    PluginNotFoundError,
    SettingsError,
)
from memory3.launcher.ports import free_ports
from memory3.rpc.channel import connect
from memory3.rpc.health import LIVENESS, READINESS
from memory3.rpc.logging import configure_logging
from memory3.settings import ServiceSettings
from memory3.v1 import retriever_pb2, retriever_pb2_grpc
from tests.unit.retriever.calls import refused


def test_every_setting_and_metric_is_documented(root: Path) -> None:
    """The README names each variable of its own, its default among them, and each metric."""
    readme = (root / "services" / "retriever" / "README.md").read_text()
    own = set(RetrieverSettings.model_fields) - set(ServiceSettings.model_fields) | {"port"}
    for field in own:
        assert f"`{RetrieverSettings.variable(field)}`" in readme, field
    registry = CollectorRegistry()
    RetrieverMetrics.on(registry)
    names = {metric.name for metric in registry.collect()}
    assert len(names) >= 6
    for name in names:
        assert f"`{name}" in readme, name


def test_nothing_of_it_imports_torch() -> None:
    """A retriever runs where no model can."""
    code = (
        "import pkgutil, importlib, sys, memory3_retriever\n"
        "names = [m.name for m in pkgutil.walk_packages(memory3_retriever.__path__,"
        " 'memory3_retriever.') if not m.name.endswith('__main__')]\n"
        "[importlib.import_module(name) for name in names]\n"
        "assert len(names) > 40, names\n"
        "print(sorted({'torch', 'lightning', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_settings_come_from_variables_and_options(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An option wins over its variable, and both over the default."""
    monkeypatch.setenv("MEMORY3_RETRIEVER_DATA", str(tmp_path))
    monkeypatch.setenv("MEMORY3_RETRIEVER_INDEX", "exact")
    monkeypatch.setenv("MEMORY3_RETRIEVER_CACHE", "none")
    settings = RetrieverSettings.load(checkpoint=tmp_path, cache="local")
    assert (settings.data, settings.index, settings.cache) == (tmp_path, "exact", "local")
    assert (settings.port, settings.encoder) == (7301, "127.0.0.1:7302")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "checkpoint"),
        ({"checkpoint": "c"}, "data"),
        ({"checkpoint": "c", "data": "d", "port": 70_000}, "port"),
        ({"checkpoint": "c", "data": "d", "map_bytes": 1}, "map_bytes"),
        ({"checkpoint": "c", "data": "d", "encoder": ""}, "encoder"),
        ({"checkpoint": "c", "data": "d", "embed_seconds": 0}, "embed_seconds"),
        ({"checkpoint": "c", "data": "d", "what": 1}, "what"),
    ],
)
def test_bad_settings_name_the_setting(options: dict[str, object], field: str) -> None:
    """And the variable that sets it."""
    with pytest.raises(SettingsError) as raised:
        RetrieverSettings.load(**options)
    assert raised.value.field == field


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"cache": "memcached"}, PluginNotFoundError),
        ({"cache": "redis:nowhere"}, InvalidArgumentError),
        ({"encoder": "nowhere"}, InvalidArgumentError),
        ({"checkpoint": "/nowhere"}, CheckpointError),
    ],
)
def test_what_cannot_be_loaded_is_told_at_the_start(
    checkpoint: Checkpoint, tmp_path: Path, options: dict[str, str], error: type[Memory3Error]
) -> None:
    """Not at the first call, and the data folder can be used again afterwards."""
    good = {"checkpoint": checkpoint.path, "data": tmp_path / "data", "port": 0}
    service = RetrieverService(RetrieverSettings.load(**{**good, **options}), CollectorRegistry())
    with pytest.raises(error):
        service.load()
    service.close()
    service.server.stop(0)
    again = RetrieverService(RetrieverSettings.load(**good), CollectorRegistry())
    again.load()
    again.close()
    again.server.stop(0)


def test_calls_before_it_is_loaded_are_told_to_wait(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """UNAVAILABLE with the seconds after which to try again; health answers meanwhile."""
    settings = RetrieverSettings.load(checkpoint=checkpoint.path, data=tmp_path / "data", port=0)
    service = RetrieverService(settings, CollectorRegistry())
    service.server.start()
    with connect(service.server.address, retries=False) as channel:
        stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
        request = retriever_pb2.RetrieverServiceGetInfoRequest()
        error = refused(lambda: stub.GetInfo(request, timeout=5))
        assert isinstance(error, LoadingError)
        assert error.retry_after_s == 0.5
        service.load()
        service.server.health.set_ready()
        assert stub.GetInfo(request, timeout=5).num_banks == 0
    service.server.stop(0)
    service.close()


def test_liveness_asks_nobody_else(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Without its encoder and its Redis it is alive and ready: restarting it would mend neither."""
    (nobody,) = free_ports(1)
    settings = RetrieverSettings.load(
        checkpoint=checkpoint.path,
        data=tmp_path / "data",
        port=0,
        encoder=f"127.0.0.1:{nobody}",
        cache=f"redis://127.0.0.1:{nobody}/0",
    )
    service = RetrieverService(settings, CollectorRegistry())
    service.server.start()
    service.load()
    service.server.health.set_ready()
    with connect(service.server.address, retries=False) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for name in (LIVENESS, READINESS):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
    service.server.stop(0)
    service.close()


def test_the_command_tells_what_is_wrong(tmp_path: Path) -> None:
    """On stderr, in one line with the remedy, and with an exit code."""
    command = [sys.executable, "-m", "memory3_retriever", "--data", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "MEMORY3_RETRIEVER_CHECKPOINT" in done.stderr
    assert done.stdout == ""


def test_the_command_has_help() -> None:
    """With the variable of each option and an example."""
    command = [sys.executable, "-m", "memory3_retriever", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "MEMORY3_RETRIEVER_CACHE" in done.stdout.replace("\n", "").replace(" ", "").replace(
        "│", ""
    )
    assert "Example" in done.stdout


@pytest.mark.parametrize(
    ("cache", "warned"), [("redis://user:secret@127.0.0.1:1/0", True), ("local", False)]
)
def test_a_cache_that_is_away_is_warned_of(
    checkpoint: Checkpoint,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    cache: str,
    warned: bool,
) -> None:
    """The retriever starts without its Redis, and its log says so, without the password."""
    configure_logging("retriever", log_format="json")
    settings = RetrieverSettings.load(
        checkpoint=checkpoint.path, data=tmp_path / "data", encoder="127.0.0.1:1", cache=cache
    )
    load(settings, RetrieverMetrics.on(CollectorRegistry())).close()
    err = capsys.readouterr().err
    assert ("the cache cannot be used now" in err) == warned
    assert ("redis does not answer: ConnectionError" in err) == warned
    assert "secret" not in err

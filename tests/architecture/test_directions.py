"""Imports point one way: v1 ← memory3 ← services and trainer, and heavy parts stay at home."""

import subprocess
import sys

import pytest

from tests.architecture.imports import importers, modules, packages

SERVICES = ("memory3_encoder", "memory3_retriever", "memory3_decoder", "memory3_gateway")
MODEL_ROOMS = ("memory3.model", "memory3.memory", "memory3.codecs", "memory3.evaluation")


def _outside(found: list[str], homes: tuple[str, ...]) -> list[str]:
    return [
        module
        for module in found
        if not any(module == home or module.startswith(f"{home}.") for home in homes)
    ]


def test_the_map_of_the_project_is_complete() -> None:
    """The packages these tests are about exist and hold modules, so none passes for emptiness."""
    assert set(packages()) == {"memory3", "memory3_trainer", *SERVICES}
    for room in (*packages(), "memory3.rpc", *MODEL_ROOMS):
        assert any(module.startswith(room) for module in modules()), room


@pytest.mark.parametrize("foreign", ["grpc", "redis", "lightning", "lmdb", "memory3.rpc"])
def test_the_model_knows_nothing_of_services(foreign: str) -> None:
    """Model, memory, codecs and evaluation know torch; not the wire, the stores or the trainer."""
    assert importers(foreign, MODEL_ROOMS) == []


def test_the_rpc_library_knows_no_torch() -> None:
    """What all services share on the wire loads no model."""
    assert importers("torch", ("memory3.rpc", "memory3.settings", "memory3.errors")) == []


@pytest.mark.parametrize("service", SERVICES)
def test_services_do_not_import_one_another(service: str) -> None:
    """A service is known to the others by its protocol alone."""
    assert _outside(importers(service), (service,)) == []


@pytest.mark.parametrize("absent", ["torch", "tokenizers", "safetensors", "memory3.checkpoint"])
def test_the_gateway_loads_no_checkpoint(absent: str) -> None:
    """The gateway is a client like any other: what it knows of a checkpoint it asks for."""
    assert importers(absent, ("memory3_gateway",)) == []


def test_nobody_imports_the_trainer() -> None:
    """The trainer hands over a checkpoint and nothing else."""
    assert _outside(importers("memory3_trainer"), ("memory3_trainer",)) == []


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("lightning", ("memory3_trainer",)),
        ("redis", ("memory3_retriever.caches",)),
        ("hnswlib", ("memory3_retriever.indexes",)),
        ("faiss", ("memory3_retriever.indexes", "memory3_trainer")),
        ("lmdb", ("memory3_retriever.bank",)),
        ("msgspec", ("memory3_decoder.model",)),
        ("fastapi", ("memory3_gateway",)),
        ("starlette", ("memory3_gateway",)),
        ("uvicorn", ("memory3_gateway",)),
        ("transformers", ("memory3.embedders.sentence_transformers", "memory3.model.adapters")),
    ],
)
def test_a_library_stays_at_home(library: str, homes: tuple[str, ...]) -> None:
    """Each of these is imported in one room only."""
    assert _outside(importers(library), homes) == []


@pytest.mark.parametrize("library", ["pickle", "cPickle", "dill", "joblib", "marshal", "shelve"])
def test_nothing_unpickles(library: str) -> None:
    """No module can execute what it reads."""
    assert importers(library) == []


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("memory3", "grpc"),
        ("memory3.errors", "grpc"),
        ("memory3.plugins", "grpc"),
        ("memory3.client", "torch"),
        ("memory3.cli", "torch"),
        ("memory3.rpc.server", "torch"),
        ("memory3.checkpoint", "torch"),
        ("memory3.data.qa", "torch"),
        ("memory3.cli.commands.eval", "torch"),
        ("memory3.cli.demonstration.run", "torch"),
        ("memory3.memory.envelope", "torch"),
        ("memory3_gateway.cli", "torch"),
        ("memory3_gateway.service", "torch"),
        ("memory3_gateway.service", "tokenizers"),
        ("memory3_retriever", "torch"),
        ("memory3_retriever.cli", "torch"),
        ("memory3_retriever.servicer", "torch"),
    ],
)
def test_importing_stays_light(module: str, absent: str) -> None:
    """A fresh interpreter that imports the module has not loaded the heavy library."""
    code = f"import sys, {module}; sys.exit({absent!r} in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")

"""The canary: sound bytes of another text are found in the bank, over real processes."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest
from memory3_retriever.bank.ledger import MEMORIES
from memory3_retriever.bank.store import BankStore

from memory3.checkpoint import Checkpoint
from memory3.launcher import LocalServices
from memory3.launcher.ports import free_ports
from tests.e2e.chain import PATIENCE_S, launch_options, people, start, until

pytestmark = pytest.mark.e2e


def test_a_memory_of_another_text_is_found(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """What was written for its reference passes every check; two swapped memories are told of."""
    (port,) = free_ports(1)
    wishes = launch_options(
        checkpoint.path,
        tmp_path,
        MEMORY3_RETRIEVER_METRICS_PORT=str(port),
        MEMORY3_RETRIEVER_CANARY_SECONDS="0.1",
    )
    with LocalServices(wishes) as services:
        with services.client() as client:
            client.create_bank("docs")
            client.add("docs", people(2, 81))
        until(lambda: _checks(port, "exact") + _checks(port, "close") >= 5)
        assert _checks(port, "mismatch") == 0
        assert services.processes["retriever"].stop(PATIENCE_S) == 0
        swapped = _swap_memories(tmp_path / "data" / "banks" / "docs")
        start(services, "retriever")
        until(lambda: _checks(port, "mismatch") >= 1)
        log = services.processes["retriever"].log_path.read_text().splitlines()
    told = [json.loads(line) for line in log if "not that of its reference" in line]
    assert told[0]["level"] == "error"
    assert told[0]["reference"] in swapped
    assert told[0]["bank"] == "docs"
    assert told[0]["request_id"].startswith("canary-")


def _swap_memories(folder: Path) -> set[str]:
    """Put every memory under the next reference, every byte and checksum sound."""
    store = BankStore(folder, "docs", map_bytes=1 << 24, max_map_bytes=1 << 30)
    keys = sorted(store.with_memory(store.vector_keys()))
    memories = store.memories(keys)
    assert len(keys) > 1
    with store.environment.paused():
        database = store._db[MEMORIES]
        with store.environment._lmdb.begin(write=True) as txn:
            for key, other in zip(keys, keys[1:] + keys[:1], strict=True):
                txn.put(key, memories[other], db=database)
    store.close()
    return {key.hex() for key in keys}


def _checks(port: int, outcome: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as page:
        lines = page.read().decode().splitlines()
    start = f'memory3_canary_checks_total{{outcome="{outcome}"}}'
    return sum(float(line.split()[-1]) for line in lines if line.startswith(start))

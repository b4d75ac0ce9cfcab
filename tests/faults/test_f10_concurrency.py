"""F10: adding, deleting, searching and snapshots at once: no error, and all read their own."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path
from random import Random

import grpc

from memory3.v1 import retriever_pb2
from tests.faults.campaign import FULL, Campaign
from tests.faults.retrievers import RetrieverProcess

_THREADS = 4
# Graphs are made every 64 additions. With m=8 some vectors of a graph cannot be reached at all
# (5 of 100,000, whatever ef is); with these parameters none was missed of 360,000, so every search
# must find its text, and one that does not has lost it.
_INDEX = "hnsw:delta=64,m=32,ef_construction=100"


def _snapshot(retriever: RetrieverProcess, bank: str, name: str) -> None:
    """Take one, waiting as a caller should where two others are being taken already."""
    request = retriever_pb2.SnapshotBankRequest(name=f"banks/{bank}", snapshot=name)
    while True:
        try:
            retriever.stub.SnapshotBank(request)
            return
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
            time.sleep(0.02)


def test_many_at_once_agree_with_a_model(tmp_path: Path, campaign: Campaign) -> None:
    """Threads with a source each; in the end the bank holds what their models hold together."""
    retriever = RetrieverProcess(tmp_path)
    retriever.start()
    operations = (10_000 if os.environ.get(FULL) else 240) // _THREADS

    def work(bank: str, rng: Random, name: str, model: dict[str, str]) -> None:
        for number in range(operations):
            step = rng.random()
            if step < 0.4 or not model:
                texts = [f"{name} {number} {n} {rng.random()}" for n in range(rng.randint(1, 3))]
                ids = retriever.add(bank, texts, name)
                model |= dict(zip(ids, texts, strict=True))
                # What was acknowledged is found at once, memory included.
                assert retriever.search(bank, texts[0], 1)[0][1] == texts[0]
                assert retriever.retrieve(bank, ids).keys() == set(ids)
            elif step < 0.6:
                gone = rng.sample(sorted(model), min(len(model), rng.randint(1, 3)))
                assert retriever.delete(bank, gone) == len(gone)
                texts = [model.pop(each) for each in gone]
                assert gone[0] not in {hit[0] for hit in retriever.search(bank, texts[0])}
            elif step < 0.98:
                text = model[rng.choice(sorted(model))]
                assert retriever.search(bank, text, 1)[0][1] == text
            else:
                _snapshot(retriever, bank, f"{bank}-{name}-{number}")

    def case(seed: int) -> None:
        bank = f"docs{seed}"
        retriever.create(bank, _INDEX)
        models: list[dict[str, str]] = [{} for _ in range(_THREADS)]
        failures: list[BaseException] = []

        def run(place: int) -> None:
            try:
                work(bank, Random(f"{seed} {place}"), f"thread{place}", models[place])
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run, args=[place]) for place in range(_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        expected = {id: text for model in models for id, text in model.items()}
        assert retriever.contents(bank) == expected
        assert retriever.problems(bank) == []
        retriever.stub.DeleteBank(retriever_pb2.DeleteBankRequest(name=f"banks/{bank}"))
        # They outlive their bank, and those of all seeds together are 80 GB.
        for snapshot in (retriever.data / "snapshots").glob(f"{bank}-*"):
            shutil.rmtree(snapshot)

    try:
        campaign.run("F10", case, full=50, short=1)
    finally:
        retriever.close()

"""F1: SIGKILL on the write path loses nothing acknowledged and leaves nothing by halves."""

from __future__ import annotations

from pathlib import Path
from random import Random

import grpc

from memory3.v1 import retriever_pb2
from tests.faults.campaign import Campaign
from tests.faults.retrievers import RetrieverProcess

# Each place, and how often it is passed at least in one run of `_work`.
_PLACES = {
    "acknowledging": 12,
    "bank.before-commit": 14,
    "bank.after-commit": 14,
    "bank.before-growing": 1,
    "bank.after-growing": 1,
    "snapshot.copied": 1,
    "snapshots.before-sync": 1,
    "snapshots.before-rename": 1,
    "snapshots.after-rename": 1,
    "restore.copied": 1,
    "banks.before-sync": 1,
    "banks.before-rename": 1,
    "banks.after-rename": 1,
    "index.written": 1,
    "index.before-sync": 1,
    "index.before-rename": 1,
    "index.after-rename": 1,
}


class _Told:
    """What was acknowledged, and what was only asked for."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.asked: set[str] = set()
        self.maybe_gone: set[str] = set()


def _work(retriever: RetrieverProcess, rng: Random, told: _Told, run: int) -> None:
    """Add, delete, snapshot and restore until all is done or the process is gone."""
    for batch in range(12):
        texts = [f"run {run} batch {batch} text {n} {rng.random()}" for n in range(24)]
        told.asked.update(texts)
        ids = retriever.add("docs", texts, f"source {batch % 3}")
        told.kept |= dict(zip(ids, texts, strict=True))
        if batch in (4, 8):
            doomed = rng.sample(sorted(told.kept), 10)
            told.maybe_gone.update(doomed)
            retriever.delete("docs", doomed)
            for each in doomed:
                del told.kept[each]
        if batch == 6:
            request = retriever_pb2.SnapshotBankRequest(name="banks/docs", snapshot=f"s{run}")
            retriever.stub.SnapshotBank(request)
            restore = retriever_pb2.RestoreBankRequest(snapshot=f"s{run}", name=f"banks/copy{run}")
            retriever.stub.RestoreBank(restore)


def _check(retriever: RetrieverProcess, told: _Told, run: int) -> None:
    found = retriever.require_sound("docs")
    assert told.kept.items() <= found.items(), "an acknowledged reference is lost"
    unknown = {t for i, t in found.items() if i not in told.kept} - told.asked
    assert unknown == set(), "there is what nobody added"
    deleted = found.keys() & told.maybe_gone
    # A deletion that was not acknowledged may have happened or not, but as a whole.
    assert len(deleted) in (0, 10) or deleted <= told.kept.keys()
    banks = retriever.stub.ListBanks(retriever_pb2.ListBanksRequest()).banks
    for bank in banks:
        retriever.require_sound(bank.name.removeprefix("banks/"))
    leftovers = [*retriever.data.glob("*/.tmp-*"), *retriever.data.glob("banks/*/index/.tmp-*")]
    assert leftovers == [], "what was begun was not swept"


def test_a_kill_loses_nothing_acknowledged(tmp_path: Path, campaign: Campaign) -> None:
    """The process dies at a named place of the write path; the next one has all it must have."""
    retriever = RetrieverProcess(tmp_path, "--cache", "none")

    def case(seed: int) -> None:
        rng = Random(seed)
        place = sorted(_PLACES)[seed % len(_PLACES)]
        count = rng.randint(1, _PLACES[place])
        # Every seed has a data folder of its own, begun by a process that was not harmed.
        data = tmp_path / f"data-{seed}"
        retriever.data = data
        told = _Told()
        retriever.start()
        retriever.create("docs", "hnsw:delta=64,m=8,ef_construction=32")
        retriever.kill()
        retriever.start({"MEMORY3_FAILPOINT": f"{place}:{count}"})
        before = set(told.maybe_gone)
        try:
            _work(retriever, rng, told, seed)
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                raise
        else:
            # The graph is built in the background and may be reached a little later.
            assert place.startswith("index."), f"{place}:{count} was never reached"
        told.maybe_gone -= before
        assert retriever.wait() == -9
        for each in told.maybe_gone & told.kept.keys():
            del told.kept[each]
        retriever.start()
        _check(retriever, told, seed)
        retriever.add("docs", ["written after it"])
        retriever.kill()

    try:
        campaign.run("F1", case, full=300, short=1)
    finally:
        retriever.close()

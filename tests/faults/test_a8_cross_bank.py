"""A8: nothing of one bank is reached by way of another, whatever they share."""

from __future__ import annotations

from pathlib import Path
from random import Random

import grpc
import pytest
from memory3_retriever.caches.base import MemoryKey

from memory3.rpc.status import from_rpc_error
from memory3.v1 import retriever_pb2
from tests.faults.campaign import Campaign
from tests.faults.retrievers import RetrieverProcess
from tests.unit.retriever.encoder_double import envelope_of


def test_banks_never_leak_into_each_other(tmp_path: Path, campaign: Campaign) -> None:
    """Searching, retrieving, getting, listing and deleting in one bank never touch another."""
    retriever = RetrieverProcess(tmp_path)
    retriever.start()
    digest = retriever.checkpoint.digest
    retriever.create("mine", "exact")
    retriever.create("theirs", "hnsw")

    def not_found(call: object) -> None:
        with pytest.raises(grpc.RpcError) as raised:
            call()  # type: ignore[operator]
        assert raised.value.code() == grpc.StatusCode.NOT_FOUND

    def case(seed: int) -> None:
        rng = Random(seed)
        shared = [f"shared {seed} {n} {rng.random()}" for n in range(3)]
        secret = [f"secret {seed} {n} {rng.random()}" for n in range(3)]
        both = retriever.add("mine", shared, "s/both")
        assert retriever.add("theirs", [*shared, *secret], "s/both")[:3] == both
        hidden = [i for i, text in retriever.contents("theirs").items() if text in secret]
        # The cache has all of theirs before mine is asked.
        assert retriever.retrieve("theirs", [*both, *hidden]).keys() == {*both, *hidden}
        kind = seed % 7
        if kind == 0:
            for text in secret:
                assert {hit[0] for hit in retriever.search("mine", text, 20)} <= (
                    retriever.contents("mine").keys()
                )
        elif kind == 1:
            not_found(lambda: retriever.retrieve("mine", [rng.choice(hidden)]))
            # Held ids of another bank hide nothing and tell nothing.
            assert retriever.retrieve("mine", both, held=hidden).keys() == set(both)
        elif kind == 2:
            request = retriever_pb2.GetReferenceRequest(bank="banks/mine", id=rng.choice(hidden))
            not_found(lambda: retriever.stub.GetReference(request))
        elif kind == 3:
            assert retriever.delete("mine", hidden) == 0
            assert retriever.contents("theirs").keys() >= set(hidden)
        elif kind == 4:
            # A token is one bank's.
            page = retriever_pb2.ListReferencesRequest(bank="banks/theirs", page_size=1)
            token = retriever.stub.ListReferences(page).next_page_token
            page = retriever_pb2.ListReferencesRequest(bank="banks/mine", page_token=token)
            with pytest.raises(grpc.RpcError) as raised:
                retriever.stub.ListReferences(page)
            error = from_rpc_error(raised.value)
            assert (error.code, error.field) == ("INVALID_ARGUMENT", "page_token")
        elif kind == 5:
            assert retriever.delete("mine", source="s/both") >= 3
            assert not retriever.contents("mine").keys() & set(both)
            not_found(lambda: retriever.retrieve("mine", both))
            memories = retriever.retrieve("theirs", both)
            assert memories == {
                i: envelope_of(t, digest) for i, t in zip(both, shared, strict=True)
            }
        else:
            uids = f"{rng.getrandbits(128):032x}", f"{rng.getrandbits(128):032x}"
            keys = [str(MemoryKey(uid, digest, both[0])) for uid in uids]
            assert keys[0] != keys[1]
            # What another bank has cached was no hit of this one: the first read is the bank's.
            info = retriever_pb2.RetrieverServiceGetInfoRequest()
            before = retriever.stub.GetInfo(info)
            retriever.retrieve("mine", both)
            after = retriever.stub.GetInfo(info)
            assert after.cache_hits == before.cache_hits
            assert after.cache_misses == before.cache_misses + 3
        retriever.delete("theirs", hidden)

    try:
        campaign.run("A8", case, full=500, short=14)
        for bank in ("mine", "theirs"):
            assert retriever.problems(bank) == []
    finally:
        retriever.close()

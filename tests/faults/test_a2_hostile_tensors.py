"""A2: hostile vectors and memories are refused by name, and cost no memory that stays."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest

from memory3.v1 import encoder_pb2, memory_pb2, retriever_pb2
from tests.faults.campaign import Campaign
from tests.faults.retrievers import RetrieverProcess
from tests.unit.retriever.encoder_double import DIMENSIONS, envelope_of

_MAX_GROWTH = 256 << 20
_BAD = (math.nan, math.inf, -math.inf)


def _vector(rng: Random) -> list[float]:
    kind = rng.randrange(4)
    if kind == 0:
        values = [rng.uniform(-1, 1) for _ in range(DIMENSIONS)]
        values[rng.randrange(DIMENSIONS)] = rng.choice(_BAD)
        return values
    size = [0, rng.randint(1, DIMENSIONS - 1), rng.randint(DIMENSIONS + 1, 9999), 900_000][
        0 if kind == 1 else rng.choices([1, 2, 3], [10, 10, 1])[0]
    ]
    return [0.5] * size


def _envelope(rng: Random, text: str, digest: str) -> bytes:
    """A memory that is none, in one way or another."""
    sound = envelope_of(text, digest)
    kind = rng.randrange(6)
    if kind == 0:
        return sound[: rng.randrange(len(sound))]
    if kind == 1:
        return sound + bytes(rng.randint(1, 5000))
    if kind == 2:
        place = rng.randrange(len(sound))
        return sound[:place] + bytes([sound[place] ^ 1 << rng.randrange(8)]) + sound[place + 1 :]
    if kind == 3:
        return envelope_of(text, "f" * 64)
    if kind == 4:
        # Shapes that overflow when they are multiplied.
        place = rng.randrange(0, min(160, len(sound) - 8), 4)
        huge = struct.pack("<II", 0xFFFFFFFF, rng.choice([0xFFFFFFFF, 0x80000000]))
        return sound[:place] + huge + sound[place + 8 :]
    return rng.randbytes(rng.choice([1, 16, 4096, 1 << 20]))


def test_hostile_tensors_are_refused(
    tmp_path: Path, campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From callers INVALID_ARGUMENT, from the encoder DATA_LOSS or a mismatch; nothing is kept."""
    retriever = RetrieverProcess(tmp_path)
    hostile: dict[str, Any] = {}
    digest = retriever.checkpoint.digest

    def encode(request: encoder_pb2.EncodeRequest, context: object) -> Any:
        for index, reference in enumerate(request.references):
            response = encoder_pb2.EncodeResponse(index=index)
            response.memory.reference_id = reference.id
            response.memory.envelope = hostile.get("envelope", envelope_of(reference.text, digest))
            response.vector.values.extend(hostile.get("vector", [0.5] * DIMENSIONS))
            yield response

    monkeypatch.setattr(retriever.encoder, "Encode", encode)
    retriever.close()
    # Its methods are bound when the server is made.
    retriever = RetrieverProcess(tmp_path / "hostile")
    digest = retriever.checkpoint.digest
    retriever.encoder.stop()
    cls = type(retriever.encoder)
    monkeypatch.setattr(cls, "Encode", lambda self, request, context: encode(request, context))
    retriever.encoder = cls(digest)
    retriever.start()
    retriever.create("docs")
    retriever.add("docs", ["a sound one"])
    before = retriever.contents("docs")
    sizes: list[int] = []

    def refused(call: Any) -> grpc.StatusCode:
        with pytest.raises(grpc.RpcError) as raised:
            call()
        return raised.value.code()

    def case(seed: int) -> None:
        rng = Random(seed)
        hostile.clear()
        if rng.random() < 0.5:
            query = retriever_pb2.Query(vector=encoder_pb2.Vector(values=_vector(rng)))
            if rng.random() < 0.5:
                search = retriever_pb2.SearchRequest(bank="banks/docs", queries=[query])
                code = refused(lambda: retriever.stub.Search(search))
            else:
                retrieve = retriever_pb2.RetrieveRequest(
                    bank="banks/docs", queries=[query], checkpoint_digest=digest
                )
                code = refused(lambda: list(retriever.stub.Retrieve(retrieve)))
            assert code == grpc.StatusCode.INVALID_ARGUMENT
        else:
            text = f"hostile {seed}"
            if rng.random() < 0.5:
                hostile["vector"] = _vector(rng)
            else:
                hostile["envelope"] = _envelope(rng, text, digest)
            add = retriever_pb2.AddReferencesRequest(
                bank="banks/docs", references=[memory_pb2.Reference(text=text)]
            )
            code = refused(lambda: list(retriever.stub.AddReferences(iter([add]))))
            expected = (grpc.StatusCode.DATA_LOSS, grpc.StatusCode.FAILED_PRECONDITION)
            assert code in expected, (code, {k: len(v) for k, v in hostile.items()})
        assert retriever.alive
        sizes.append(retriever.rss_bytes)

    try:
        campaign.run("A2", case, full=10_000, short=60)
        hostile.clear()
        assert retriever.contents("docs") == before
        assert retriever.problems("docs") == []
        # After the first requests, which fill buffers that stay.
        assert max(sizes) - max(sizes[: max(1, len(sizes) // 4)]) < _MAX_GROWTH
    finally:
        retriever.close()

"""What one pass of the encoder's model gives, and when: vectors beside memories, batch by batch."""

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from memory3_encoder.engine.model_work import ModelWork
from memory3_encoder.engine.work import EncodeItem, Written

from memory3.checkpoint import Checkpoint
from memory3.testing.embedders import TOLERANCE
from memory3.v1 import encoder_pb2 as pb
from memory3.v1 import memory_pb2
from tests.integration.encoders import TEXTS, WAIT_S, Running, encode, references
from tests.unit.embedders.checkpoints import checkpoint_with_embedder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A tiny random checkpoint with an embedder of its own."""
    return checkpoint_with_embedder(tmp_path_factory.mktemp("encoder") / "own")


@pytest.fixture(scope="module")
def encoder(checkpoint: Checkpoint) -> Iterator[Running]:
    """An encoder of it, in float32, whose batches take some of the texts."""
    running = Running(checkpoint, batch_tokens=1024).load()
    yield running
    running.stop()


def _embedded(encoder: Running) -> float:
    return encoder.metric("memory3_encoder_batch_items_sum", work="embed")


def test_vectors_come_out_of_the_pass_that_writes(encoder: Running) -> None:
    """They are those of Embed, from batches of any padding, and the embedder itself never runs."""
    expected = encoder.stub.Embed(
        pb.EmbedRequest(texts=TEXTS, kind=pb.TEXT_KIND_REFERENCE), timeout=WAIT_S
    ).vectors
    before = _embedded(encoder)
    found = encode(encoder.stub, TEXTS, with_vectors=True)
    assert _embedded(encoder) == before
    for index, vector in enumerate(expected):
        np.testing.assert_allclose(found[index].vector.values, vector.values, atol=TOLERANCE)


def test_a_title_is_embedded_by_the_embedder(encoder: Running) -> None:
    """What is searched for then is another text than the one the memory is written of."""
    before = _embedded(encoder)
    reference = memory_pb2.Reference(text=TEXTS[5], title="Flute")
    request = pb.EncodeRequest(references=[reference], with_vectors=True)
    (response,) = encoder.stub.Encode(request, timeout=WAIT_S)
    texts = [f"Flute\n{TEXTS[5]}"]
    assert _embedded(encoder) == before + 1
    embedded = encoder.stub.Embed(
        pb.EmbedRequest(texts=texts, kind=pb.TEXT_KIND_REFERENCE), timeout=WAIT_S
    ).vectors[0]
    np.testing.assert_allclose(response.vector.values, embedded.values, atol=TOLERANCE)


def test_in_another_number_format_the_embedder_runs(checkpoint: Checkpoint) -> None:
    """A model in bfloat16 would give other vectors than Embed, so they are not taken from it."""
    running = Running(checkpoint, dtype="bfloat16")
    try:
        running.load()
        before = _embedded(running)
        encode(running.stub, TEXTS[:3], with_vectors=True)
        assert _embedded(running) == before + 3
    finally:
        running.stop()


def test_results_come_while_later_batches_wait(
    encoder: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first batch's results arrive over the wire though the second has not been computed."""
    gate, sizes = threading.Event(), list[int]()
    real = ModelWork.__call__

    def held(work: ModelWork, items: Sequence[EncodeItem]) -> list[Written]:
        if sizes:
            assert gate.wait(WAIT_S)
        sizes.append(len(items))
        return real(work, items)

    monkeypatch.setattr(ModelWork, "__call__", held)
    request = pb.EncodeRequest(references=references(TEXTS), with_vectors=True)
    responses = encoder.stub.Encode(request, timeout=WAIT_S)
    first = next(responses)
    early = [first, *(next(responses) for _ in range(sizes[0] - 1))]
    assert 0 < len(early) < len(TEXTS)
    assert len(sizes) == 1
    gate.set()
    later = list(responses)
    assert len(early) + len(later) == len(TEXTS)
    assert len(sizes) > 1

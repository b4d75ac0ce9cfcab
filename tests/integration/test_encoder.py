"""The answers of the encoder over real gRPC, with a tiny random checkpoint."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from memory3.checkpoint import Checkpoint
from memory3.codecs.raw import RawCodec
from memory3.errors import CheckpointMismatchError, InvalidArgumentError, Memory3Error
from memory3.memory.envelope import unpack
from memory3.memory.writer import MemoryWriter, to_envelope
from memory3.rpc.status import typed_errors
from memory3.testing.checkpoints import tiny_checkpoint
from memory3.v1 import encoder_pb2 as pb
from memory3.v1 import encoder_pb2_grpc, memory_pb2
from tests.integration.encoders import (
    TEXTS,
    WAIT_S,
    Running,
    assert_same_memory,
    encode,
    references,
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A tiny random checkpoint."""
    return tiny_checkpoint(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="module")
def encoder(checkpoint: Checkpoint) -> Iterator[Running]:
    """An encoder for tests that leave it as it was."""
    running = Running(checkpoint).load()
    yield running
    running.stop()


def test_says_what_it_has_loaded(encoder: Running) -> None:
    """GetInfo names checkpoint, layout, embedder and codecs."""
    info = encoder.stub.GetInfo(pb.EncoderServiceGetInfoRequest(), timeout=WAIT_S)
    assert info.checkpoint == encoder.checkpoint.info()
    assert (info.embedder.name, info.embedder.dimensions) == ("lexical", 384)
    assert info.default_codec == "raw"
    assert {"raw", "int8"} <= set(info.codecs)


def test_over_the_wire_equals_in_process(encoder: Running) -> None:
    """A reference encoded by the service is, byte for byte, what the library writes."""
    checkpoint = encoder.checkpoint
    model = checkpoint.load_model(dtype=torch.float32)
    writer = MemoryWriter(model, checkpoint.config)
    for text in TEXTS[:4]:
        tokens = checkpoint.tokenizer.encode(text, add_special_tokens=False).ids
        expected = to_envelope(writer.write([tokens])[0], RawCodec(), checkpoint.digest)
        assert expected == encode(encoder.stub, [text])[0].memory.envelope


def test_batched_equals_alone(encoder: Running) -> None:
    """A memory depends on its own reference only, whatever shared its batch."""
    together = encode(encoder.stub, TEXTS)
    for index in range(0, len(TEXTS), 7):
        alone = encode(encoder.stub, [TEXTS[index]])[0]
        assert_same_memory(encoder, alone.memory.envelope, together[index].memory.envelope)


def test_order_does_not_matter(encoder: Running) -> None:
    """Results come under the index of the request, whatever the order of the references."""
    forward, backward = encode(encoder.stub, TEXTS), encode(encoder.stub, TEXTS[::-1])
    for index in range(0, len(TEXTS), 9):
        mirrored = backward[len(TEXTS) - 1 - index]
        assert_same_memory(encoder, forward[index].memory.envelope, mirrored.memory.envelope)
    assert {i: r.memory.reference_id for i, r in forward.items()} == {
        i: f"id-{i}" for i in range(len(TEXTS))
    }


@pytest.mark.parametrize("codec", ["", "raw", "int8"])
def test_memories_carry_digest_and_codec(encoder: Running, codec: str) -> None:
    """Every envelope opens for its own checkpoint and for no other."""
    response = encode(
        encoder.stub, TEXTS[:1], codec=codec, checkpoint_digest=encoder.checkpoint.digest
    )[0]
    envelope = unpack(response.memory.envelope, checkpoint_digest=encoder.checkpoint.digest)
    assert envelope.codec == (codec or "raw")
    assert envelope.shape == encoder.checkpoint.config.memory_shape
    with pytest.raises(CheckpointMismatchError):
        unpack(response.memory.envelope, checkpoint_digest="0" * 64)


def test_vectors_of_encode_and_embed_agree(encoder: Running) -> None:
    """Eager and lazy banks get the same vectors, title and heading included."""
    reference = memory_pb2.Reference(text="It plays.", title="Flute", heading="Music > Wood")
    request = pb.EncodeRequest(references=[reference], with_vectors=True)
    encoded = next(iter(encoder.stub.Encode(request, timeout=WAIT_S))).vector
    embedded = encoder.stub.Embed(
        pb.EmbedRequest(texts=["Flute Music > Wood\nIt plays."], kind=pb.TEXT_KIND_REFERENCE),
        timeout=WAIT_S,
    ).vectors[0]
    assert encoded == embedded
    assert np.linalg.norm(encoded.values) == pytest.approx(1.0, abs=1e-5)
    assert not encode(encoder.stub, TEXTS[:1])[0].HasField("vector")


def test_bad_references_fail_alone(encoder: Running) -> None:
    """Blank, too long and sound references in one call each get their own outcome."""
    long = "many words follow each other here " * 60
    responses = encode(encoder.stub, ["", TEXTS[0], " \n", long, TEXTS[1]], with_vectors=True)
    reasons = {index: response.error.reason for index, response in responses.items()}
    blank, too_long = "REFERENCE_BLANK", "REFERENCE_TOO_LONG"
    assert reasons == {0: blank, 1: "", 2: blank, 3: too_long, 4: ""}
    tokens = encoder.checkpoint.tokenizer.encode(long, add_special_tokens=False).ids
    assert f"{len(tokens)} tokens" in responses[3].error.message
    assert "at most 128 tokens" in responses[3].error.message
    assert unpack(responses[4].memory.envelope).num_kept > 0


_BAD: dict[str, tuple[object, type[Memory3Error], str]] = {
    "no references": (pb.EncodeRequest(), InvalidArgumentError, "references"),
    "1025 references": (
        pb.EncodeRequest(references=references(["text"] * 1025)),
        InvalidArgumentError,
        "references",
    ),
    "another checkpoint": (
        pb.EncodeRequest(references=references(["text"]), checkpoint_digest="f" * 64),
        CheckpointMismatchError,
        "checkpoint_digest",
    ),
    "an unknown codec": (
        pb.EncodeRequest(references=references(["text"]), codec="zip"),
        InvalidArgumentError,
        "codec",
    ),
    "a codec with a path": (
        pb.EncodeRequest(references=references(["text"]), codec="../raw"),
        InvalidArgumentError,
        "codec",
    ),
    "no texts": (pb.EmbedRequest(), InvalidArgumentError, "texts"),
    "1025 texts": (pb.EmbedRequest(texts=["text"] * 1025), InvalidArgumentError, "texts"),
    "an unknown kind": (
        pb.EmbedRequest(texts=["text"], kind=9),  # type: ignore[arg-type]
        InvalidArgumentError,
        "kind",
    ),
}


def _send(stub: encoder_pb2_grpc.EncoderServiceStub, request: object) -> None:
    with typed_errors():
        if isinstance(request, pb.EncodeRequest):
            list(stub.Encode(request, timeout=WAIT_S))
        else:
            assert isinstance(request, pb.EmbedRequest)
            stub.Embed(request, timeout=WAIT_S)


@pytest.mark.parametrize("case", _BAD)
def test_refuses_bad_requests(encoder: Running, case: str) -> None:
    """The client gets the very class, with field and remedy."""
    request, error, field = _BAD[case]
    with pytest.raises(error) as caught:
        _send(encoder.stub, request)
    assert caught.value.field == field
    assert caught.value.remedy
    if field == "codec":
        assert caught.value.metadata["available"] == "int8,raw"


def test_embeds_as_many_texts_as_allowed(encoder: Running) -> None:
    """1024 texts come back in their order; a text without features is the zero vector."""
    texts = [f"text number {i}" for i in range(1023)]
    answer = encoder.stub.Embed(pb.EmbedRequest(texts=[*texts, "…"]), timeout=WAIT_S)
    vectors = np.array([vector.values for vector in answer.vectors], np.float32)
    assert vectors.shape == (1024, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1.0] * 1023 + [0.0], atol=1e-5)
    alone = encoder.stub.Embed(pb.EmbedRequest(texts=[texts[500]]), timeout=WAIT_S).vectors[0]
    np.testing.assert_array_equal(vectors[500], np.array(alone.values, np.float32))


def test_counts_what_it_does(encoder: Running) -> None:
    """References by outcome, texts and batches are counted for Prometheus."""
    names: list[Callable[[], float]] = [
        lambda: encoder.metric("memory3_encoder_references_total", outcome="encoded"),
        lambda: encoder.metric("memory3_encoder_references_total", outcome="REFERENCE_BLANK"),
        lambda: encoder.metric("memory3_encoder_batch_items_sum", work="encode"),
        lambda: encoder.metric("memory3_encoder_texts_total"),
    ]
    encode(encoder.stub, ["text", ""])
    before = [read() for read in names]
    encode(encoder.stub, [*TEXTS[:5], " "])
    encoder.stub.Embed(pb.EmbedRequest(texts=["a", "b"]), timeout=WAIT_S)
    assert [read() - was for read, was in zip(names, before, strict=True)] == [5, 1, 5, 2]

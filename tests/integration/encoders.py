"""An encoder running in this process with a client, and texts to give it."""

import time
from collections.abc import Sequence
from random import Random

import torch
from memory3_encoder.service import EncoderService
from memory3_encoder.settings import EncoderSettings
from prometheus_client import CollectorRegistry
from tokenizers import Tokenizer

from memory3.checkpoint import Checkpoint
from memory3.memory.reader import MemoryReader
from memory3.people import iter_documents
from memory3.rpc.channel import connect
from memory3.testing.checkpoints import tiny_tokenizer
from memory3.v1 import encoder_pb2 as pb
from memory3.v1 import encoder_pb2_grpc, memory_pb2

WAIT_S = 60.0


def _text(tokenizer: Tokenizer, seed: int) -> str:
    """A text without repeated tokens: in the lowest layer, equal tokens tie for being kept."""
    rng = Random(seed)
    words = sorted({word for text in iter_documents(rng, 8) for word in text.split()})
    rng.shuffle(words)
    chosen: list[str] = []
    for word in words:
        ids = tokenizer.encode(" ".join([*chosen, word]), add_special_tokens=False).ids
        if len(ids) == len(set(ids)) <= 4 + seed:
            chosen.append(word)
    return " ".join(chosen)


TEXTS = [_text(tiny_tokenizer(), seed) for seed in range(60)]


class Running:
    """A started encoder with one client."""

    def __init__(self, checkpoint: Checkpoint, **settings: object) -> None:
        self.checkpoint = checkpoint
        self.registry = CollectorRegistry()
        given = {"checkpoint": checkpoint.path, "port": 0, "dtype": "float32", **settings}
        self.service = EncoderService(EncoderSettings.load(**given), self.registry)
        self.service.server.start()
        self.address = self.service.server.address
        self.channel = connect(self.address, retries=False)
        self.stub = encoder_pb2_grpc.EncoderServiceStub(self.channel)

    def load(self) -> "Running":
        """Load and become ready."""
        self.service.load()
        self.service.server.health.set_ready()
        return self

    def stop(self) -> None:
        """End all of it."""
        self.channel.close()
        self.service.server.stop(0)
        self.service.close()

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric."""
        value = self.registry.get_sample_value(name, labels)
        assert value is not None
        return value

    def wait_for_empty_queue(self) -> None:
        """Wait until nothing waits for the model."""
        until = time.monotonic() + WAIT_S
        while self.metric("memory3_encoder_waiting", work="encode"):
            assert time.monotonic() < until
            time.sleep(0.01)


def references(texts: Sequence[str]) -> list[memory_pb2.Reference]:
    """References with ids of their own."""
    return [memory_pb2.Reference(text=text, id=f"id-{i}") for i, text in enumerate(texts)]


def encode(
    stub: encoder_pb2_grpc.EncoderServiceStub, texts: Sequence[str], **fields: object
) -> dict[int, pb.EncodeResponse]:
    """The responses by index, each there once."""
    request = pb.EncodeRequest(references=references(texts), **fields)  # type: ignore[arg-type]
    responses = list(stub.Encode(request, timeout=WAIT_S))
    assert sorted(item.index for item in responses) == list(range(len(texts)))
    return {item.index: item for item in responses}


def assert_same_memory(running: Running, expected: bytes, actual: bytes) -> None:
    """The same tokens kept, and values within the rounding of bfloat16."""
    checkpoint = running.checkpoint
    reader = MemoryReader(checkpoint.config, checkpoint.digest, dtype=torch.float32)
    one, other = reader.read(expected), reader.read(actual)
    assert one.num_kept == other.num_kept
    torch.testing.assert_close(one.positions, other.positions)
    torch.testing.assert_close(one.keys, other.keys, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(one.values, other.values, rtol=1e-2, atol=1e-2)

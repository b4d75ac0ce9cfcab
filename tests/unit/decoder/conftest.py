"""What the decoder's tests share: one tiny checkpoint, a retriever, decoders made to measure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from memory3_decoder.decoder import Decoder
from memory3_decoder.metrics import DecoderMetrics
from memory3_decoder.settings import DecoderSettings
from prometheus_client import CollectorRegistry

from memory3.checkpoint import Checkpoint
from memory3.people import iter_documents
from memory3.testing.checkpoints import tiny_checkpoint
from tests.unit.decoder.held_model import HeldModel
from tests.unit.decoder.scripted_retriever import ScriptedRetriever

# Short chunks, so that a few dozen tokens go through several memory cycles.
CHUNK_LENGTH = 16


def bank_texts(count: int = 24) -> list[str]:
    """Texts for a bank."""
    return [text.replace("\n", " ")[:200] for text in iter_documents(Random(7), count)]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A tiny checkpoint with random weights and short chunks."""
    path: Path = tmp_path_factory.mktemp("checkpoint") / "tiny"
    return tiny_checkpoint(
        path, chunk_length=CHUNK_LENGTH, references_per_chunk=3, reference_length=64
    )


@pytest.fixture
def retriever(checkpoint: Checkpoint) -> Iterator[ScriptedRetriever]:
    """A running retriever with 24 references."""
    with ScriptedRetriever(checkpoint, bank_texts()) as running:
        yield running


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldModel]:
    """The decoders' model, to be held or slowed."""
    held = HeldModel(monkeypatch)
    yield held
    held.gate.set()


MakeDecoder = Callable[..., Any]


@pytest.fixture
async def make_decoder(
    checkpoint: Checkpoint, retriever: ScriptedRetriever
) -> AsyncIterator[MakeDecoder]:
    """Makes running decoders; keyword arguments are settings. All are closed after the test."""
    made: list[Decoder] = []

    async def make(**changes: Any) -> Decoder:
        given: dict[str, Any] = {
            "checkpoint": checkpoint.path,
            "retriever": retriever.address,
            "dtype": "float32",
            # Tests look into the model and hold it.
            "model_in": "thread",
            "num_slots": 4,
            "retrieval_timeout_s": 60.0,
        }
        settings = DecoderSettings.load(**{**given, **changes})
        made.append(await Decoder.load(settings, DecoderMetrics(CollectorRegistry())))
        return made[-1]

    yield make
    for decoder in made:
        await decoder.close()

"""The engine: joining memories and vectors, foreign embedders, deadlines and cancelling."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from memory3_encoder.engine.batcher import Limits
from memory3_encoder.engine.engine import EncoderEngine
from memory3_encoder.engine.work import EncodeItem, PreparedReference, Written
from memory3_encoder.metrics import EncoderMetrics
from prometheus_client import CollectorRegistry

from memory3.codecs.raw import RawCodec
from memory3.embedders.base import Embedder, TextKind, Vectors
from memory3.embedders.lexical import LexicalEmbedder
from memory3.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    PluginError,
    QueueFullError,
    RequestCancelledError,
)

WAIT_S = 20.0
LEXICAL = LexicalEmbedder.train(["one text", "another text"], dimensions=64)


class Gate:
    """Packs token ids as bytes in place of a model; waits for ``open`` and fails on a 13."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()

    def __call__(self, items: Sequence[EncodeItem]) -> list[Written]:
        self.entered.set()
        assert self.open.wait(WAIT_S)
        if any(13 in item.tokens for item in items):
            raise InvalidArgumentError("unlucky", field="tokens")
        return [Written(bytes(item.tokens)) for item in items]


class ForeignEmbedder(Embedder):
    """A plugin that returns whatever it was given to return."""

    name, dimensions, digest = "foreign", 4, "0" * 64

    def __init__(self, answer: Vectors) -> None:
        self._answer = answer

    @classmethod
    def from_checkpoint(cls, embedder_dir: Path | None, argument: str | None) -> Self:
        """Not needed here."""
        raise NotImplementedError

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """The answer."""
        return self._answer


@contextmanager
def _engine(
    gate: Gate, embedder: Embedder = LEXICAL, limits: Limits | None = None
) -> Iterator[EncoderEngine]:
    registry = CollectorRegistry()
    made = EncoderEngine(gate, embedder, limits or Limits(64, 100), EncoderMetrics(registry))
    try:
        yield made
    finally:
        gate.open.set()
        made.close()


def _references(*tokens: Sequence[int], text: str | None = None) -> list[PreparedReference]:
    return [PreparedReference(10 * i, ids, text) for i, ids in enumerate(tokens)]


def test_outcomes_carry_memory_and_vector() -> None:
    """Each reference comes back once, under its own index, with both parts."""
    with _engine(Gate()) as engine:
        references = _references([5, 6, 7], [1], [2, 3], text="one text")
        outcomes = {item.index: item for item in engine.encode(references, RawCodec())}
    assert {0: bytes([5, 6, 7]), 10: bytes([1]), 20: bytes([2, 3])} == {
        index: outcome.envelope for index, outcome in outcomes.items()
    }
    expected = LEXICAL.embed(["one text"], "reference")[0]
    for outcome in outcomes.values():
        np.testing.assert_array_equal(expected, outcome.vector)


def test_a_failing_reference_leaves_the_others() -> None:
    """One outcome has the error, the others have memories."""
    with _engine(Gate()) as engine:
        outcomes = list(engine.encode(_references([1], [13], [2]), RawCodec()))
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    assert [(item.index, type(item.error)) for item in failed] == [(10, InvalidArgumentError)]
    assert sum(outcome.envelope is not None for outcome in outcomes) == 2


@pytest.mark.parametrize(
    "answer",
    [
        np.zeros((1, 3), np.float32),
        np.zeros((1, 4), np.float64),
        np.full((1, 4), np.nan, np.float32),
        np.zeros(4, np.float32),
    ],
    ids=["width", "dtype", "NaN", "rank"],
)
def test_a_foreign_embedder_is_not_trusted(answer: np.ndarray) -> None:
    """What it should not have returned is an error of the plugin, for Embed and for Encode."""
    with _engine(Gate(), ForeignEmbedder(answer)) as engine:
        with pytest.raises(PluginError) as caught:
            engine.embed(["text"], "query")
        outcomes = list(engine.encode(_references([1], text="text"), RawCodec()))
    assert caught.value.field == "embedder"
    assert [type(outcome.error) for outcome in outcomes] == [PluginError]


def test_queries_and_references_share_a_batch() -> None:
    """Rows come back in the order of the texts, from callers of both kinds at once."""
    texts = [f"one text {i}" for i in range(50)]
    results: dict[str, Vectors] = {}
    with _engine(Gate(), limits=Limits(64, 1000)) as engine:

        def work(kind: TextKind) -> None:
            results[kind] = engine.embed(texts, kind)

        threads = [threading.Thread(target=work, args=(k,)) for k in ("query", "reference")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        assert engine.embed([], "query").shape == (0, 64)
    expected = LEXICAL.embed(texts, "query")
    np.testing.assert_array_equal(expected, results["query"])
    np.testing.assert_array_equal(expected, results["reference"])


def test_cancelling_wakes_the_caller_and_frees_the_queue() -> None:
    """A cancelled call ends with its error while the model is still busy."""
    gate = Gate()
    gate.open.clear()
    with _engine(gate) as engine:
        call = engine.encode(_references([1], [2], text="t"), RawCodec())
        threading.Timer(0.05, call.cancel).start()
        with pytest.raises(RequestCancelledError):
            list(call)


def test_a_full_queue_takes_nothing_of_a_call() -> None:
    """Neither memories nor vectors of a refused call are queued."""
    gate = Gate()
    gate.open.clear()
    with _engine(gate, limits=Limits(4, 3)) as engine:
        held = engine.encode(_references([1]), RawCodec())
        assert gate.entered.wait(WAIT_S)
        full = engine.encode(_references([1], [1], [1]), RawCodec())
        with pytest.raises(QueueFullError):
            engine.encode(_references([1], [1], [1], text="text"), RawCodec())
        gate.open.set()
        assert len(list(held)) == 1
        assert len(list(full)) == 3


class SlowEmbedder(ForeignEmbedder):
    """Answers when told to."""

    def __init__(self) -> None:
        super().__init__(np.zeros((1, 4), np.float32))
        self.answer = threading.Event()

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """Wait, then answer."""
        assert self.answer.wait(WAIT_S)
        return np.zeros((len(texts), 4), np.float32)


def test_embedding_keeps_its_deadline() -> None:
    """A caller with little time is told so while the embedder is still busy."""
    slow = SlowEmbedder()
    with _engine(Gate(), slow) as engine:
        with pytest.raises(DeadlineExceededError):
            engine.embed(["text"], "query", timeout_s=0.05)
        with pytest.raises(RequestCancelledError):
            engine.embed(["text"], "query", WAIT_S, on_begin=lambda call: call.cancel())
        slow.answer.set()
        assert engine.embed(["text"], "query").shape == (1, 4)

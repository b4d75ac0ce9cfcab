"""The engine: a batcher for the model, a batcher for the embedder, and calls that use them.

Threads of the server call it; model and embedder run on the batchers' two threads alone. It must
not know gRPC, protobuf or torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from memory3.embedders.base import TEXT_KINDS, Embedder, TextKind, Vectors
from memory3.errors import Memory3Error, PluginError
from memory3_encoder.engine.batcher import Batcher, Limits
from memory3_encoder.engine.calls import EmbedCall, EncodeCall
from memory3_encoder.engine.work import EmbedItem, EncodeItem, PreparedReference, Written
from memory3_encoder.metrics import EncoderMetrics

if TYPE_CHECKING:
    from memory3.codecs.base import Codec

# Texts are measured in characters; a token of ordinary text has about four.
_CHARACTERS_PER_TOKEN = 4


class EncoderEngine:
    """Encodes and embeds for many callers at once.

    Args:
        write: Makes a memory of each item of a batch, and the vector of those that ask for it.
        embedder: Makes vectors.
        limits: Bounds of the model's batches and of both queues; lengths are tokens.
        metrics: Counts.
        embeds: Whether writing a text of so many tokens gives its vector as well.
        begin: Called first on each of both threads.
    """

    def __init__(
        self,
        write: Callable[[Sequence[EncodeItem]], Sequence[Written]],
        embedder: Embedder,
        limits: Limits,
        metrics: EncoderMetrics,
        embeds: Callable[[str, int], bool] = lambda text, num_tokens: False,
        *,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        self.embedder = embedder
        self._embeds = embeds
        self._encoding: Batcher[EncodeItem, Written] = Batcher(
            "encode", write, lambda item: len(item.tokens), limits,
            metrics.batch_observer("encode"), begin,
        )  # fmt: skip
        self._embedding: Batcher[EmbedItem, Vectors] = Batcher(
            "embed", self._embed_batch, _length_of_text,
            # No lingering: a query waits for its vector before anything else can begin.
            Limits(limits.budget, limits.max_waiting), metrics.batch_observer("embed"),
            begin,
        )  # fmt: skip
        metrics.watch_queue("encode", lambda: self._encoding.num_waiting)
        metrics.watch_queue("embed", lambda: self._embedding.num_waiting)

    def encode(self, references: Sequence[PreparedReference], codec: Codec) -> EncodeCall:
        """Queue references.

        Args:
            references: What to encode.
            codec: How the memories are stored.

        Returns:
            The call, which yields an outcome for each reference in any order.

        Raises:
            QueueFullError: There is no room; nothing was queued.
            DrainingError: The engine is closed.
        """
        # Neighbours of about one length waste no padding.
        ordered = sorted(references, key=lambda reference: len(reference.tokens))
        return EncodeCall.begin(ordered, codec, self._encoding, self._embedding, self._embeds)

    def embed(
        self,
        texts: Sequence[str],
        kind: TextKind,
        timeout_s: float | None = None,
        on_begin: Callable[[EmbedCall], object] | None = None,
    ) -> Vectors:
        """Embed texts and wait.

        Args:
            texts: What to embed; may be empty.
            kind: Their role in search.
            timeout_s: How long to wait, in seconds.
            on_begin: Told the call once it is queued, to cancel it by.

        Returns:
            ``[len(texts), dimensions]`` float32.

        Raises:
            QueueFullError: There is no room.
            DeadlineExceededError: The time is over; what was queued is dropped.
            RequestCancelledError: The call was cancelled.
            DrainingError: The engine is closed.
        """
        if not texts:
            return np.zeros((0, self.embedder.dimensions), np.float32)
        call = EmbedCall.begin([EmbedItem(text, kind) for text in texts], self._embedding)
        if on_begin is not None:
            on_begin(call)
        return call.wait(timeout_s)

    def close(self) -> None:
        """End both threads; what waits fails with DrainingError."""
        self._encoding.close()
        self._embedding.close()

    def _embed_batch(self, items: Sequence[EmbedItem]) -> Sequence[Vectors | Memory3Error]:
        rows: dict[int, Vectors] = {}
        for kind in TEXT_KINDS:
            places = [place for place, item in enumerate(items) if item.kind == kind]
            if places:
                vectors = self._checked(self.embedder.embed([items[i].text for i in places], kind))
                rows.update(zip(places, vectors, strict=True))
        return [rows[place] for place in range(len(items))]

    def _checked(self, vectors: Vectors) -> Vectors:
        """Refuse what an embedder, which may be anyone's plugin, should not have returned."""
        sound = vectors.ndim == 2 and vectors.shape[1] == self.embedder.dimensions
        if not sound or vectors.dtype != np.float32 or not np.isfinite(vectors).all():
            raise PluginError(
                f"the embedder {self.embedder.name} returned vectors of shape {vectors.shape} "
                f"and dtype {vectors.dtype}, or not finite",
                field="embedder",
                remedy=f"it must return finite float32 [n, {self.embedder.dimensions}]",
            )
        return vectors


def _length_of_text(item: EmbedItem) -> int:
    return len(item.text) // _CHARACTERS_PER_TOKEN + 1

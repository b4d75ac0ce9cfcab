"""Calls in progress: what a thread of the server waits on while the batchers work for it.

It must not know gRPC; cancelling and deadlines come in as plain calls and seconds.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np

from memory3.embedders.base import Vectors
from memory3.errors import DeadlineExceededError, Memory3Error, RequestCancelledError
from memory3_encoder.engine.batcher import Batcher
from memory3_encoder.engine.ticket import Ticket
from memory3_encoder.engine.work import (
    EmbedItem,
    EncodeItem,
    Outcome,
    PreparedReference,
    Written,
)

if TYPE_CHECKING:
    from memory3.codecs.base import Codec

# Results on their way to one caller: enough to keep the model busy while the network works.
_WINDOW = 128


class EncodeCall:
    """The references of one call: joins memories and vectors, yields outcomes as they finish."""

    def __init__(self, references: Sequence[PreparedReference]) -> None:
        self._references = references
        self._lock = threading.Lock()
        self._memories: dict[int, bytes] = {}
        self._vectors: dict[int, Vectors] = {}
        self._finished: set[int] = set()
        self._outcomes: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
        self._encoding: tuple[Batcher[EncodeItem, Written], Ticket[EncodeItem, Written]] | None = (
            None
        )
        self._embedding: tuple[Batcher[EmbedItem, Vectors], Ticket[EmbedItem, Vectors]] | None = (
            None
        )

    @classmethod
    def begin(
        cls,
        references: Sequence[PreparedReference],
        codec: Codec,
        encoding: Batcher[EncodeItem, Written],
        embedding: Batcher[EmbedItem, Vectors],
        embeds: Callable[[str, int], bool],
    ) -> Self:
        """Queue the work of a call in both batchers, or in neither.

        Args:
            references: What to encode.
            codec: How memories are stored.
            encoding: Runs the model.
            embedding: Runs the embedder, for what the model does not embed as it writes.
            embeds: Whether writing a text of so many tokens gives its vector as well.

        Raises:
            QueueFullError: A queue has no room.
            DrainingError: The batchers are closed.
        """
        call = cls(references)
        # In the same pass where that is the same vector; else in the other batcher.
        passing = [
            text if reference.is_bare and text and embeds(text, len(reference.tokens)) else None
            for reference in references
            for text in (reference.search_text,)
        ]
        texts = [
            reference.search_text if same is None else None
            for reference, same in zip(references, passing, strict=True)
        ]
        wanted = [place for place, text in enumerate(texts) if text is not None]
        items = [EmbedItem(text, "reference") for text in texts if text is not None]
        call._embedding = (
            embedding,
            embedding.submit(items, lambda i, result: call._put_vector(wanted[i], result)),
        )
        try:
            work = [
                EncodeItem(reference.tokens, codec, text)
                for reference, text in zip(references, passing, strict=True)
            ]
            call._encoding = (encoding, encoding.submit(work, call._put_memory, window=_WINDOW))
        except Memory3Error:
            call.cancel()
            raise
        return call

    def __iter__(self) -> Iterator[Outcome]:
        """The outcomes, in the order in which they finish.

        Raises:
            RequestCancelledError: The call was cancelled.
        """
        for _ in self._references:
            outcome = self._outcomes.get()
            if outcome is None:
                raise RequestCancelledError("the call was cancelled")
            yield outcome
            if self._encoding is not None:
                batcher, ticket = self._encoding
                batcher.taken(ticket)

    def cancel(self) -> None:
        """Drop what has not started and wake whoever iterates; may be called from any thread."""
        if self._encoding is not None:
            encoding, encode_ticket = self._encoding
            encoding.cancel(encode_ticket)
        if self._embedding is not None:
            embedding, embed_ticket = self._embedding
            embedding.cancel(embed_ticket)
        self._outcomes.put(None)

    def _put_memory(self, place: int, result: Written | Memory3Error) -> None:
        with self._lock:
            if isinstance(result, Memory3Error):
                self._fail(place, result)
            else:
                self._memories[place] = result.envelope
                if result.vector is not None:
                    self._vectors[place] = result.vector
                self._finish(place)

    def _put_vector(self, place: int, result: Vectors | Memory3Error) -> None:
        with self._lock:
            if isinstance(result, Memory3Error):
                self._fail(place, result)
            else:
                self._vectors[place] = result
                self._finish(place)

    def _finish(self, place: int) -> None:
        reference = self._references[place]
        complete = reference.search_text is None or place in self._vectors
        if place in self._memories and complete and place not in self._finished:
            self._finished.add(place)
            envelope = self._memories.pop(place)
            vector = self._vectors.pop(place, None)
            self._outcomes.put(Outcome(reference.index, envelope, vector))

    def _fail(self, place: int, error: Memory3Error) -> None:
        if place not in self._finished:
            self._finished.add(place)
            self._outcomes.put(Outcome(self._references[place].index, error=error))


class EmbedCall:
    """The texts of one call: gathers their vectors."""

    def __init__(self, num_texts: int, batcher: Batcher[EmbedItem, Vectors]) -> None:
        self._batcher = batcher
        self._rows: list[Vectors | None] = [None] * num_texts
        self._num_missing = num_texts
        self._error: Memory3Error | None = None
        self._done = threading.Event()
        self._ticket: Ticket[EmbedItem, Vectors] | None = None

    @classmethod
    def begin(cls, items: Sequence[EmbedItem], batcher: Batcher[EmbedItem, Vectors]) -> Self:
        """Queue the texts of a call.

        Raises:
            QueueFullError: The queue has no room.
            DrainingError: The batcher is closed.
        """
        call = cls(len(items), batcher)
        call._ticket = batcher.submit(items, call._put)
        return call

    def wait(self, timeout_s: float | None) -> Vectors:
        """The vectors in order, ``[num_texts, dimensions]``.

        Raises:
            DeadlineExceededError: The time is over; what was queued is dropped.
            Memory3Error: The error of the first text that failed, or of the cancellation.
        """
        if not self._done.wait(timeout_s):
            self.cancel()
            raise DeadlineExceededError("the vectors were not ready in time", field="deadline")
        if self._error is not None:
            raise self._error
        return np.stack([row for row in self._rows if row is not None])

    def cancel(self) -> None:
        """Drop what has not started and wake whoever waits; may be called from any thread."""
        if self._ticket is not None:
            self._batcher.cancel(self._ticket)
        self._end(RequestCancelledError("the call was cancelled"))

    def _put(self, place: int, result: Vectors | Memory3Error) -> None:
        if isinstance(result, Memory3Error):
            self._end(result)
            return
        self._rows[place] = result
        self._num_missing -= 1
        if self._num_missing == 0:
            self._done.set()

    def _end(self, error: Memory3Error) -> None:
        if not self._done.is_set():
            self._error = error
            self._done.set()

"""The memory cycle of a request whose text may be longer than the window.

What leaves the window is written as memories and kept in a bank of the choice. Every chunk looks
for memories there and in the bank that the caller named, with the same query; the nearest of both
are attached. Both scores are cosines of query and text. Where the caller's bank uses the
checkpoint's own embedder, as banks do unless told otherwise, they are on one scale; a rule of
places, or one bank before the other, would push out what fits better.

It must not know slots or the loop: ``write`` is given to it.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, Self

from memory3.memory.tensors import MemoryTensors
from memory3.v1 import memory_pb2
from memory3_decoder.events import TokenSpan
from memory3_decoder.metrics import DecoderMetrics
from memory3_decoder.retrieval import AttachedMemory
from memory3_decoder.session import Memories, MemorySession, PromptMemories, Refresh
from memory3_decoder.session_memory.bank import SessionBank, SessionMemory
from memory3_decoder.session_memory.borders import Borders
from memory3_decoder.session_memory.embedding import SessionEmbedder
from memory3_decoder.session_memory.window import Window

Write = Callable[[Sequence[Sequence[int]]], Awaitable[list[MemoryTensors]]]


class WindowSession(MemorySession):
    """The memory cycle of one request, then by ``fork`` of each choice.

    Args:
        arguments: Those of ``MemorySession``.
        window: What leaves and what stays.
        own: Empty; the memories of what left go there.
        embedder: Makes vectors of queries and texts.
        write: Writes memories of token ids.
        metrics: Counts.
        wishes: Keyword arguments of ``MemorySession``.
    """

    def __init__(
        self,
        *arguments: Any,
        window: Window,
        own: SessionBank,
        embedder: SessionEmbedder,
        write: Write,
        metrics: DecoderMetrics,
        **wishes: Any,
    ) -> None:
        super().__init__(*arguments, **wishes)
        self._window = window
        self._borders = Borders(self._tokenizer)
        self._own = own
        self._embedder = embedder
        self._write = write
        self._metrics = metrics
        # What each of both banks gave last: a chunk that finds nothing keeps it.
        self._from_bank: Memories = ()
        self._from_own: Memories = ()
        self._num_written = 0

    @property
    def reads(self) -> bool:
        """Whether there are memories to read at all; without any, what leaves is forgotten."""
        return super().reads or self._num_references > 0

    @property
    def refreshes(self) -> bool:
        """Whether generated chunks look for memories of their own."""
        return self._num_references > 0

    @property
    def num_written(self) -> int:
        """Memories written of the text so far."""
        return self._num_written

    @property
    def num_bytes(self) -> int:
        """Bytes of the memories it holds."""
        return self._own.num_bytes

    def fork(self) -> Self:
        """The cycle of one choice, with the prompt's memories."""
        other = copy.copy(self)
        other._own = self._own.fork()
        return other

    def is_full(self, num_tokens: int) -> bool:
        """Whether a window of so many tokens must be moved before it takes another."""
        return self._window.is_full(num_tokens)

    async def for_prompt(self, tokens: Sequence[int]) -> PromptMemories:
        """As ``MemorySession.for_prompt``, of the part of a prompt that fits into the window."""
        return await self.for_window(tokens, 0)

    async def for_window(self, tokens: Sequence[int], start: int) -> PromptMemories:
        """Write what must leave, and find the memories of the chunks that stay.

        Args:
            tokens: The tokens in the window, or a prompt that is too long for it.
            start: Offset of the first of them from the start of the prompt.

        Returns:
            What the rest reads; ``start`` says where it begins.

        Raises:
            Memory3Error: As ``MemorySession.for_prompt``.
            FailedPreconditionError: The checkpoint's embedder cannot be used.
        """
        num_leaving = self._window.num_leaving(len(tokens))
        if num_leaving:
            self._metrics.session_moves.inc()
            if self._num_references:
                await self._remember(tokens[:num_leaving], start)
        rest = tokens[num_leaving:]
        found = await super().for_prompt(rest)
        self._from_bank = found.inherited
        own = await self._search(self._texts(rest))
        chunks = tuple(
            self._merge(memories, session)
            for memories, session in zip(found.chunks, own, strict=True)
        )
        inherited = self._merge(found.inherited, self._from_own)
        return replace(found, chunks=chunks, inherited=inherited, start=start + num_leaving)

    async def refresh(self, tokens: Sequence[int]) -> Refresh:
        """As ``MemorySession.refresh``, from both banks."""
        found = Refresh(None)
        if super().refreshes:
            found = await super().refresh(tokens)
        if found.memories is not None:
            self._from_bank = found.memories
        await self._search([self._query_text(tokens)])
        merged = self._merge(self._from_bank, self._from_own)
        return replace(found, memories=merged or None)

    async def _remember(self, tokens: Sequence[int], start: int) -> None:
        """Write memories of tokens, those left out that would be forgotten at once."""
        parts = list(self._borders.cut(tokens, self._window.reference_length))
        firsts = accumulate(map(len, parts), initial=start)
        cut = list(zip(firsts, parts, strict=False))[-self._own.capacity :]
        told = [(first, part, self._query_text(part)) for first, part in cut]
        told = [(first, part, text) for first, part, text in told if text]
        if not told:
            return
        vectors = await self._embedder.embed([text for _, _, text in told], "reference")
        tensors = await self._write([part for _, part, _ in told])
        for (first, part, text), vector, memory in zip(told, vectors, tensors, strict=True):
            span = TokenSpan(first, len(part))
            self._own.add(SessionMemory(span, text, vector, memory))
        self._num_written += len(told)
        self._metrics.session_memories.inc(len(told))

    async def _search(self, texts: Sequence[str]) -> list[Memories]:
        """What the choice's own bank has for each query, or what it had for the one before."""
        wanted = [text for text in texts if text]
        if not len(self._own) or not wanted:
            return [self._from_own] * len(texts)
        vectors = iter(await self._embedder.embed(wanted, "query"))
        found: list[Memories] = []
        for text in texts:
            hits = self._own.search(next(vectors), self._num_references) if text else []
            if hits:
                self._from_own = tuple(self._attached(memory, score) for memory, score in hits)
            found.append(self._from_own)
        return found

    def _texts(self, tokens: Sequence[int]) -> list[str]:
        size = self._chunk_length
        return [
            self._query_text(tokens[start : start + size]) for start in range(0, len(tokens), size)
        ]

    def _merge(self, from_bank: Memories, own: Memories) -> Memories:
        """The nearest of both, but all that the caller named; the caller's bank wins a tie."""
        both = (*from_bank, *own)
        if not self._options.reference_ids:
            both = tuple(sorted(both, key=lambda memory: -memory.score))
        return both[: max(self._num_references, len(self._options.reference_ids))]

    def _attached(self, memory: SessionMemory, score: float) -> AttachedMemory:
        reference = None
        if self._options.with_references:
            reference = memory_pb2.Reference(text=memory.text, num_tokens=memory.span.num_tokens)
        return AttachedMemory("", score, memory.tensors, reference, memory.span)

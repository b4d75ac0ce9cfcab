"""The memory cycle of one request: which memories each 64-token chunk reads, and what is done when
they do not come.

Source: paper §4. Every chunk of the prompt retrieves with its own text, all in one call. The first
generated chunk inherits the last prompt chunk's memories. After every 64 generated tokens those
tokens are the query, and what they find takes the place of what was attached. A chunk that finds
nothing, be it only white space, keeps the memories before it.

It must not know slots or the model: the engine says when, this says what.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from tokenizers import Tokenizer

from memory3.errors import (
    BackendUnavailableError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    Memory3Error,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from memory3.model.config import MemoryConfig
from memory3_decoder.parameters import MemoryOptions
from memory3_decoder.retrieval import AttachedMemory, Fetched, IdQuery, MemorySource, TextQuery

# Faults of the request or the set-up: going on without memories would hide them.
_NEVER_DEGRADED = (
    NotFoundError,
    FailedPreconditionError,
    InvalidArgumentError,
    PermissionDeniedError,
    UnauthenticatedError,
)

Memories = tuple[AttachedMemory, ...]


@dataclass(frozen=True)
class PromptMemories:
    """What a prompt reads.

    Attributes:
        chunks: Memories of each chunk of the prompt.
        inherited: What the first generated chunk reads.
        degraded_reason: Why some are missing, for people; empty where none is.
        num_retrievals: Calls to the retriever.
        start: Tokens before the first that is read; not 0 only where text has left the window.
    """

    chunks: tuple[Memories, ...]
    inherited: Memories = ()
    degraded_reason: str = ""
    num_retrievals: int = 0
    start: int = 0


@dataclass(frozen=True)
class Refresh:
    """What a generated chunk reads.

    Attributes:
        memories: Those that replace the attached ones; None keeps what is attached.
        degraded_reason: Why some are missing, for people; empty where none is.
        num_retrievals: Calls to the retriever.
    """

    memories: Memories | None
    degraded_reason: str = ""
    num_retrievals: int = 0


class MemorySession:
    """The memory cycle of one request; its choices share it.

    Args:
        source: Fetches memories.
        tokenizer: Turns chunks into query texts.
        config: Chunk length and references per chunk.
        bank: Resource name of the bank; empty reads no memories.
        options: The caller's wishes.
        default_timeout_s: Bound of one retrieval where the caller gives none.
        deadline: When the caller stops waiting, on ``time.monotonic``.
    """

    def __init__(
        self,
        source: MemorySource,
        tokenizer: Tokenizer,
        config: MemoryConfig,
        *,
        bank: str,
        options: MemoryOptions,
        default_timeout_s: float,
        deadline: float | None,
    ) -> None:
        self._source = source
        self._tokenizer = tokenizer
        self._chunk_length = config.chunk_length
        self._bank = bank
        self._options = options
        self._timeout_s = options.retrieval_timeout_s or default_timeout_s
        self._deadline = deadline
        given = options.num_references
        self._num_references = config.references_per_chunk if given is None else given

    @property
    def reads(self) -> bool:
        """Whether there are memories to read at all."""
        return self._reads_bank

    @property
    def _reads_bank(self) -> bool:
        return bool(self._bank) and (bool(self._options.reference_ids) or self._num_references > 0)

    @property
    def refreshes(self) -> bool:
        """Whether generated chunks look for memories of their own."""
        return self._reads_bank and not self._options.reference_ids

    @property
    def num_written(self) -> int:
        """Memories written of the request's own text: none, but see ``session_memory``."""
        return 0

    @property
    def num_bytes(self) -> int:
        """Bytes of memories that it holds itself."""
        return 0

    def fork(self) -> Self:
        """The memory cycle of one choice."""
        return self

    def is_full(self, num_tokens: int) -> bool:
        """Whether a window of so many tokens is to be moved: never, but see ``session_memory``."""
        return False

    async def for_window(self, tokens: Sequence[int], start: int) -> PromptMemories:
        """The memories of what stays in a window that is full; see ``session_memory``."""
        raise AssertionError("the window of this request cannot be moved")

    def without_memories(self, tokens: Sequence[int]) -> PromptMemories:
        """What a prompt reads where there is nothing to read."""
        return PromptMemories(chunks=((),) * -(-len(tokens) // self._chunk_length))

    async def for_prompt(self, tokens: Sequence[int]) -> PromptMemories:
        """The memories of every chunk of a prompt, found in one call.

        Raises:
            Memory3Error: The bank or a reference does not exist, belongs to another checkpoint, or,
                in strict mode, memories could not be had.
        """
        size = self._chunk_length
        parts = [tokens[start : start + size] for start in range(0, len(tokens), size)]
        none = self.without_memories(tokens)
        if not self._reads_bank:
            return none
        if self._options.reference_ids:
            fetched, reason = await self._fetch_named()
            if fetched is None:
                return PromptMemories(none.chunks, (), reason, self._num_failed_calls)
            named = fetched.memories[0]
            return PromptMemories((named,) * len(parts), named, reason, fetched.num_calls)
        texts = [self._query_text(part) for part in parts]
        queries = [TextQuery(text) for text in texts if text]
        if not queries:
            return none
        fetched, reason = await self._fetch(queries)
        if fetched is None:
            return PromptMemories(none.chunks, (), reason, self._num_failed_calls)
        chunks = _one_for_each(texts, fetched)
        return PromptMemories(chunks, chunks[-1], reason, fetched.num_calls)

    async def refresh(self, tokens: Sequence[int]) -> Refresh:
        """The memories found with a generated chunk.

        Args:
            tokens: The tokens of the chunk to search with: all, or the first of them.

        Raises:
            Memory3Error: As ``for_prompt``.
        """
        text = self._query_text(tokens)
        if not text:
            return Refresh(None)
        fetched, reason = await self._fetch([TextQuery(text)])
        if fetched is None:
            return Refresh(None, reason, self._num_failed_calls)
        return Refresh(fetched.memories[0] or None, reason, fetched.num_calls)

    async def _fetch_named(self) -> tuple[Fetched | None, str]:
        """As ``_fetch``, of the references that the caller names."""
        try:
            return await self._fetch([IdQuery(self._options.reference_ids)])
        except NotFoundError as error:
            # The retriever names the field of its own request, which the caller has not seen.
            field = error.field or ""
            error.field = field.replace("queries[0].references.ids", "memory.reference_ids")
            raise

    async def _fetch(self, queries: Sequence[TextQuery | IdQuery]) -> tuple[Fetched | None, str]:
        """What was found and why it is not all; None where nothing could be had."""
        try:
            fetched = await self._source.fetch(
                self._bank,
                queries,
                k=max(1, self._num_references),
                timeout_s=self._time_left(),
                with_references=self._options.with_references,
            )
        except _NEVER_DEGRADED:
            raise
        except Memory3Error as error:
            self._time_left()  # where the caller's own time is up, that is the error
            self._degrade(error.message, error)
            return None, error.message
        reason = ""
        if fetched.num_left_out:
            reason = f"{fetched.num_left_out} memories were not ready in time"
            self._degrade(reason, None)
        return fetched, reason

    @property
    def _num_failed_calls(self) -> int:
        return 1 if self._source.target else 0

    def _degrade(self, reason: str, cause: Memory3Error | None) -> None:
        if self._options.strict:
            raise BackendUnavailableError(
                f"memories cannot be had: {reason}",
                field="memory.strict",
                remedy="try again, allow a longer retrieval_timeout, or leave strict unset",
                metadata={} if cause is None else {"cause": cause.reason},
            ) from cause

    def _time_left(self) -> float:
        if self._deadline is None:
            return self._timeout_s
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise DeadlineExceededError("the caller's deadline has passed", field="deadline")
        return min(left, self._timeout_s)

    def _query_text(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        # A chunk border inside a character leaves halves of it, which mean nothing to a search.
        return text.strip("\ufffd").strip()


def _one_for_each(texts: Sequence[str], fetched: Fetched) -> tuple[Memories, ...]:
    """Memories of every chunk: what its query found, else those of the chunk before."""
    found = iter(fetched.memories)
    chunks: list[Memories] = []
    for text in texts:
        own = next(found) if text else ()
        chunks.append(own or (chunks[-1] if chunks else ()))
    return tuple(chunks)

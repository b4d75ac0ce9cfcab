"""What the choices of one request share: the prompt, its memories, the stream to the caller."""

from __future__ import annotations

import asyncio
import contextvars
import time
from dataclasses import dataclass, field

from tokenizers import Tokenizer

from memory3.observability import tracing
from memory3_decoder.engine.stream import EventStream
from memory3_decoder.parameters import GenerationRequest
from memory3_decoder.session import MemorySession, PromptMemories


@dataclass(eq=False)
class Request:
    """One accepted call of Generate.

    Attributes:
        wanted: What the caller asked for.
        session: Its memory cycle.
        stream: Where its events go.
        tokenizer: The checkpoint's tokenizer.
        eos_id: The checkpoint's end-of-text token.
        chunk_length: Tokens of a chunk.
        query_length: Tokens of a generated chunk with which the next one's memories are looked for.
        prefix_root: What the keys of prompts that are kept hang on; empty where none is kept.
        num_open: Choices that have not finished.
        caller: Who asks; callers take turns. Empty for a caller of this request alone.
        memories: What the prompt reads, once that is known.
        retrieving: The search for them, once it has begun.
        is_over: Whether the caller has left or been told of an error.
        context: The caller's context variables, which outgoing calls carry on.
        span: The caller's part of the trace.
        arrived: When it came, on ``time.perf_counter``.
        timer: Ends it at the deadline.
    """

    wanted: GenerationRequest
    session: MemorySession
    stream: EventStream
    tokenizer: Tokenizer
    eos_id: int
    chunk_length: int
    query_length: int
    prefix_root: str
    num_open: int
    caller: str = ""
    memories: PromptMemories | None = None
    retrieving: asyncio.Task[PromptMemories] | None = None
    is_over: bool = False
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    span: tracing.Span = field(default_factory=tracing.current)
    arrived: float = field(default_factory=time.perf_counter)
    timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Stop what runs on its behalf."""
        self.is_over = True
        if self.retrieving is not None:
            self.retrieving.cancel()
        if self.timer is not None:
            self.timer.cancel()

"""What the decoder must give, worked out the slow way: no cache, no slots, no batch.

Every token comes from one full forward over everything before it, each chunk with the memories
that the memory cycle of paper §4 gives it. For prompts that end on a chunk border the chunks of
the output are chunks of that forward too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from memory3.checkpoint import Checkpoint
from memory3.memory.reader import MemoryReader
from memory3.memory.tensors import MemoryTensors
from memory3.model.cache import SlotCache
from tests.unit.decoder.scripted_retriever import ScriptedRetriever


@dataclass
class Expected:
    """Tokens of a greedy continuation, and the reference ids of each chunk."""

    tokens: list[int] = field(default_factory=list)
    chunk_ids: list[list[str]] = field(default_factory=list)


class Oracle:
    """Greedy continuations by full forwards.

    Args:
        checkpoint: The model.
        retriever: Its search and envelopes are used directly; None attaches nothing.
    """

    def __init__(self, checkpoint: Checkpoint, retriever: ScriptedRetriever | None) -> None:
        self.checkpoint = checkpoint
        self.retriever = retriever
        self.model = checkpoint.load_model(dtype=torch.float32)
        self.memory = checkpoint.config.memory
        self.cache = SlotCache(self.model, num_slots=1)
        self.reader = MemoryReader(checkpoint.config, checkpoint.digest, dtype=torch.float32)

    def greedy(
        self, prompt: Sequence[int], num_tokens: int, *, frequency_penalty: float = 0.0
    ) -> Expected:
        """The continuation that always takes the likeliest token.

        A frequency penalty keeps an untrained model from saying one token for ever.
        """
        size = self.memory.chunk_length
        assert len(prompt) % size == 0
        expected = Expected()
        for start in range(0, len(prompt), size):
            expected.chunk_ids.append(self._find(prompt[start : start + size]))
        expected.chunk_ids.append(expected.chunk_ids[-1])
        tokens = list(prompt)
        for count in range(num_tokens):
            if count and count % size == 0:
                # The full chunk is known; it is the query of the chunk whose tokens come next.
                found = self._find(expected.tokens[-size:])
                expected.chunk_ids.append(found or expected.chunk_ids[-1])
            logits = self._forward(tokens, expected.chunk_ids)[-1].clone()
            for token in expected.tokens:
                logits[token] -= frequency_penalty
            expected.tokens.append(int(logits.argmax()))
            tokens.append(expected.tokens[-1])
        return expected

    def logprobs(
        self, prompt: Sequence[int], continuation: Sequence[int], ids: list[list[str]]
    ) -> list[float]:
        """Log-probabilities of a continuation under the given chunks of memories."""
        tokens = [*prompt, *continuation]
        rows = torch.log_softmax(self._forward(tokens, ids), dim=-1)
        return [float(rows[len(prompt) + i, token]) for i, token in enumerate(continuation)]

    @torch.inference_mode()
    def _forward(self, tokens: Sequence[int], ids: list[list[str]]) -> torch.Tensor:
        num_chunks = max(1, -(-len(tokens) // self.memory.chunk_length))
        chunks = [[self._read(key) for key in chunk] for chunk in ids[:num_chunks]]
        return self.model.prefill(
            self.cache, 0, torch.tensor(tokens, dtype=torch.int64), chunks, all_logits=True
        ).logits

    def _find(self, tokens: Sequence[int]) -> list[str]:
        if self.retriever is None:
            return []
        text = self.checkpoint.tokenizer.decode(list(tokens), skip_special_tokens=True)
        query = text.strip("\ufffd").strip()
        if not query:  # nothing to look for
            return []
        found = self.retriever.search(query, self.memory.references_per_chunk)
        return [key for key, _ in found]

    def _read(self, key: str) -> MemoryTensors:
        assert self.retriever is not None
        return self.reader.read(self.retriever.envelopes[key])

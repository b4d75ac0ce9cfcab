"""Log-probabilities of given continuations, one prefill each, as the decoder's Score does.

Source: paper §7, the leak to avoid: a continuation never looks for memories, so what follows the
prompt's last chunk reads what the prompt reads. It must not know choices or scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from memory3.data.progress import Progress, silent
from memory3.evaluation.decoding import Prompt, prompt_memories
from memory3.evaluation.memories import MemorySource
from memory3.evaluation.subject import Subject
from memory3.model.cache import SlotCache

_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Continuation:
    """Tokens that may follow a prompt; at least one."""

    prompt: Prompt
    tokens: tuple[int, ...]


class Likelihood:
    """Scores continuations.

    Args:
        subject: What scores.
        memories: Gives what is attached.
        num_references: Most memories of a prompt.
    """

    def __init__(self, subject: Subject, memories: MemorySource, *, num_references: int) -> None:
        self._subject, self._memories = subject, memories
        self._num_references = num_references

    def logprobs(
        self,
        continuations: Sequence[Continuation],
        progress: Progress = silent,
    ) -> list[list[float]]:
        """The natural log-probability of every token of every continuation."""
        longest = max((len(c.prompt.tokens) + len(c.tokens) for c in continuations), default=0)
        if not longest:
            return []
        cache = SlotCache(
            self._subject.model,
            num_slots=1,
            context_length=longest,
            num_references=self._num_references,
        )
        found: list[list[float]] = []
        for start in range(0, len(continuations), _AT_ONCE):
            group = continuations[start : start + _AT_ONCE]
            found += self._group(cache, group)
            progress("scored", len(found), len(continuations))
        return found

    @torch.inference_mode()
    def _group(self, cache: SlotCache, group: Sequence[Continuation]) -> list[list[float]]:
        memories = self._memories.fetch(n for c in group for n in c.prompt.references)
        model, found = self._subject.model, []
        for item in group:
            # Row i of the logits predicts token i, so the last token itself is not read.
            read = [*item.prompt.tokens, *item.tokens[:-1]]
            chunks = prompt_memories(self._subject, len(read), item.prompt, memories)
            tokens = torch.tensor(read, dtype=torch.int64, device=model.device)
            output = model.prefill(cache, 0, tokens, chunks, all_logits=True)
            cache.release(0)
            rows = output.logits[len(item.prompt.tokens) :, : self._subject.num_tokens]
            targets = torch.tensor(item.tokens, device=model.device)
            chosen = torch.log_softmax(rows, dim=-1).gather(1, targets[:, None])[:, 0]
            found.append([float(value) for value in chosen.tolist()])
        return found

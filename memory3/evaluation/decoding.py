"""Greedy answers in batches: one prefill each, then steps of all together, as the decoder does.

Source: paper §4. The memories of a question stay attached for the whole of its answer: answers are
far shorter than the 64 tokens after which the decoder would look for new ones.
It must not know questions or scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from memory3.data.progress import Progress, silent
from memory3.errors import InvalidArgumentError
from memory3.evaluation.memories import MemorySource
from memory3.evaluation.subject import Subject
from memory3.memory.tensors import MemoryTensors
from memory3.model.cache import SlotCache


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is read before the answer.

    Attributes:
        tokens: Without prefix and separator.
        references: Numbers of the references attached as memories.
    """

    tokens: tuple[int, ...]
    references: tuple[int, ...] = ()


class GreedyDecoder:
    """Answers prompts; an answer ends at the stop text, at the end token, or when it is full.

    Args:
        subject: What answers.
        memories: Gives what is attached.
        num_references: Most memories of a prompt.
        max_tokens: Most tokens of an answer.
        batch_size: Prompts decoded together.
        stop: Ends an answer and is no part of it.
    """

    def __init__(
        self,
        subject: Subject,
        memories: MemorySource,
        *,
        num_references: int,
        max_tokens: int = 32,
        batch_size: int = 32,
        stop: str = "\n",
    ) -> None:
        room(subject, max_tokens)
        self._subject, self._memories = subject, memories
        self._num_references, self._max_tokens = num_references, max_tokens
        self._batch_size, self._stop = batch_size, stop

    def answers(self, prompts: Sequence[Prompt], progress: Progress = silent) -> list[str]:
        """The answer of each prompt; in batches of similar length, whatever their order."""
        order = sorted(range(len(prompts)), key=lambda n: (-len(prompts[n].tokens), n))
        found = [""] * len(prompts)
        for start in range(0, len(order), self._batch_size):
            places = order[start : start + self._batch_size]
            texts = self._batch([prompts[place] for place in places])
            for place, text in zip(places, texts, strict=True):
                found[place] = text
            progress("answered", start + len(places), len(prompts))
        return found

    @torch.inference_mode()
    def _batch(self, prompts: Sequence[Prompt]) -> list[str]:
        model = self._subject.model
        memories = self._memories.fetch(n for prompt in prompts for n in prompt.references)
        longest = max(len(prompt.tokens) for prompt in prompts)
        cache = SlotCache(
            model,
            num_slots=len(prompts),
            context_length=longest + self._max_tokens,
            num_references=self._num_references,
        )
        written: list[list[int]] = [[] for _ in prompts]
        newest = []
        for slot, prompt in enumerate(prompts):
            chunks = prompt_memories(self._subject, len(prompt.tokens), prompt, memories)
            tokens = torch.tensor(prompt.tokens, dtype=torch.int64, device=model.device)
            logits = model.prefill(cache, slot, tokens, chunks).logits
            newest.append(int(logits[0, : self._subject.num_tokens].argmax()))
        active = [n for n, token in enumerate(newest) if self._goes_on(written[n], token)]
        while active:
            slots = torch.tensor(active, device=model.device)
            tokens = torch.tensor([written[n][-1] for n in active], device=model.device)
            logits = model.decode(cache, slots, tokens).logits[:, : self._subject.num_tokens]
            chosen = logits.argmax(dim=-1).tolist()
            active = [
                n
                for n, token in zip(active, chosen, strict=True)
                if self._goes_on(written[n], token)
            ]
        return [self._text(tokens).split(self._stop, 1)[0].strip() for tokens in written]

    def _goes_on(self, written: list[int], token: int) -> bool:
        """Take in a token; whether the answer goes on after it."""
        if token == self._subject.config.eos_id:
            return False
        written.append(token)
        return len(written) < self._max_tokens and self._stop not in self._text(written)

    def _text(self, tokens: Sequence[int]) -> str:
        text: str = self._subject.checkpoint.tokenizer.decode(
            list(tokens), skip_special_tokens=True
        )
        return text


def prompt_memories(
    subject: Subject, num_tokens: int, prompt: Prompt, memories: dict[int, MemoryTensors]
) -> list[list[MemoryTensors]]:
    """The same memories for every chunk of a prompt; empty where it reads none."""
    if not prompt.references:
        return []
    own = [memories[number] for number in prompt.references]
    return [own] * subject.model.layout.num_chunks(num_tokens)


def room(subject: Subject, max_tokens: int) -> int:
    """Tokens that a prompt may have, so that an answer fits behind it.

    Raises:
        InvalidArgumentError: There is none.
    """
    left = subject.config.context_length - max_tokens
    if max_tokens < 1 or left < 1:
        raise InvalidArgumentError(
            f"answers of {max_tokens} tokens leave no room for a prompt in a context of"
            f" {subject.config.context_length}",
            field="max_tokens",
            remedy=f"give 1 to {subject.config.context_length - 1}",
        )
    return left

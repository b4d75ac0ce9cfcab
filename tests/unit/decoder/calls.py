"""Asking a decoder in the test's own process, and the answer in one piece."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from memory3_decoder.decoder import Decoder
from memory3_decoder.engine import EventStream
from memory3_decoder.events import ChunkMemories, Finished, TextDelta, TokenLogprob
from memory3_decoder.parameters import GenerationRequest, MemoryOptions, SamplingParameters

WORDS = ("Where", "was", "the", "painter", "born", "?", "Who", "taught", "her", "town", "in")


@dataclass
class Answer:
    """Everything one choice gave."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    deltas: list[TextDelta] = field(default_factory=list)
    attached: list[ChunkMemories] = field(default_factory=list)
    finish: Finished | None = None

    @property
    def end(self) -> Finished:
        """How it ended."""
        assert self.finish is not None
        return self.finish

    @property
    def chunk_ids(self) -> list[list[str]]:
        """Ids of the references of every chunk."""
        return [[reference.id for reference in chunk.references] for chunk in self.attached]


def request(
    decoder: Decoder,
    prompt: str,
    *,
    bank: str = "",
    max_tokens: int = 20,
    memory: MemoryOptions | None = None,
    deadline: float | None = None,
    **sampling: Any,
) -> GenerationRequest:
    """A request; keyword arguments are sampling parameters."""
    # An untrained model left alone says one token for ever.
    given = {"ignore_eos": True, "frequency_penalty": 0.5, **sampling}
    return GenerationRequest(
        prompt=prompt,
        prompt_tokens=decoder.requests.tokens(prompt, "prompt"),
        max_tokens=max_tokens,
        bank=bank,
        sampling=SamplingParameters(max_tokens=max_tokens, **given),
        memory=memory or MemoryOptions(),
        deadline=deadline,
    )


async def collect(stream: EventStream) -> list[Answer]:
    """Read a stream to its end: the answers by choice."""
    answers: dict[int, Answer] = {}
    with stream:
        async for event in stream:
            answer = answers.setdefault(event.choice, Answer())
            if isinstance(event, TextDelta):
                answer.text += event.text
                answer.tokens.extend(event.token_ids)
                answer.logprobs.extend(event.logprobs)
                answer.deltas.append(event)
            elif isinstance(event, ChunkMemories):
                answer.attached.append(event)
            else:
                answer.finish = event
    return [answers[choice] for choice in sorted(answers)]


async def ask(decoder: Decoder, prompt: str, **wishes: Any) -> Answer:
    """Generate one choice."""
    (answer,) = await collect(decoder.engine.generate(request(decoder, prompt, **wishes)))
    return answer


def prompt_of(decoder: Decoder, num_tokens: int, *, start: int = 0) -> str:
    """A text of exactly so many tokens."""
    text, number = "", start
    while True:
        grown = f"{text} {WORDS[number % len(WORDS)]}"
        size = len(decoder.requests.tokens(grown, "prompt"))
        if size == num_tokens:
            return grown
        if size > num_tokens:  # a word of one token cannot overshoot for ever
            grown = text + "?" * (num_tokens - len(decoder.requests.tokens(text, "prompt")))
            assert len(decoder.requests.tokens(grown, "prompt")) == num_tokens
            return grown
        text, number = grown, number + 1


async def until_idle(decoder: Decoder, *, within_s: float = 60.0) -> None:
    """Wait until no slot is in use and nothing waits."""
    async with asyncio.timeout(within_s):
        while decoder.engine.num_running or decoder.engine.num_waiting:
            await asyncio.sleep(0.002)


def metric(decoder: Decoder, name: str) -> float:
    """The value of a metric without labels, by its name after ``memory3_``."""
    for metric in vars(decoder._metrics).values():
        for family in metric.collect():
            for sample in family.samples:
                if sample.name == f"memory3_{name}" and not sample.labels:
                    return float(sample.value)
    raise AssertionError(f"there is no metric {name}")

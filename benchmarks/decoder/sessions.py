"""Beyond the window: `python -m benchmarks.decoder.sessions`, with a released checkpoint.

Facts about made-up people stand at the start of a text, other people's biographies follow for so
many windows, then a question. Session memory is held against truncation, which keeps the same
window and remembers nothing, and against the fact inside the window. Then the time per token of a
text of ten windows. It runs the decoder in this process, on one thread of the model's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from random import Random
from typing import Any

from memory3_decoder.decoder import Decoder
from memory3_decoder.events import TextDelta
from memory3_decoder.metrics import DecoderMetrics
from memory3_decoder.parameters import (
    GenerationRequest,
    MemoryOptions,
    SamplingParameters,
    SessionOptions,
)
from memory3_decoder.settings import DecoderSettings
from prometheus_client import CollectorRegistry

from benchmarks.decoder.long_text import measure_perplexity
from memory3 import people

DISTANCES = (1, 2, 5, 10)
SESSION = MemoryOptions(session=SessionOptions())
TRUNCATION = MemoryOptions(session=SessionOptions(), num_references=0)


def measure_sessions(
    checkpoint: Path, *, window: int, num_questions: int, num_windows: int
) -> list[dict[str, Any]]:
    """Rows of recall by distance, then one of the time per token.

    Args:
        checkpoint: A checkpoint that was trained on people.
        window: Tokens of the window; at most the checkpoint's.
        num_questions: Questions for each distance and condition.
        num_windows: Windows of output whose time is taken; at least 3.
    """
    settings = DecoderSettings(checkpoint=checkpoint, num_slots=1, context_length=window)
    return asyncio.run(_measure(settings, num_questions, num_windows))


async def _measure(
    settings: DecoderSettings, num_questions: int, num_windows: int
) -> list[dict[str, Any]]:
    decoder = await Decoder.load(settings, DecoderMetrics(CollectorRegistry()))
    try:
        rows = [await _recall(decoder, 0, num_questions)]
        rows += [await _recall(decoder, distance, num_questions) for distance in DISTANCES]
        return [*rows, await _time_per_token(decoder, num_windows)]
    finally:
        await decoder.close()


async def _recall(decoder: Decoder, distance: int, num_questions: int) -> dict[str, Any]:
    """Right answers where so many windows of other text lie between fact and question."""
    rng = Random(24)
    known = people.sample_people(rng, num_questions, split="evaluation")
    facts = "\n\n".join(people.biography(rng, person) for person in known)
    filler = _filler(decoder, rng, distance * decoder.context_length)
    row: dict[str, Any] = {"figure": "recall", "windows": distance, "session": 0, "truncation": 0}
    for person in known:
        attribute = list(person.facts)[int(rng.random() * len(person.facts))]
        (question,) = people.questions(rng, person, [attribute])
        # What is asked inside the window has the biography alone before it.
        start = facts if distance else people.biography(Random(24), person)
        asked = "\n\n" + question.prompt
        prompt = (
            *decoder.requests.tokens(start, "prompt"),
            *filler,
            *decoder.requests.tokens(asked, "prompt"),
        )
        for name, memory in (("session", SESSION), ("truncation", TRUNCATION)):
            answer = await _text(decoder, prompt, memory)
            row[name] += answer.strip() == question.completion.strip()
    return {**row, "of": num_questions}


def _filler(decoder: Decoder, rng: Random, num_tokens: int) -> list[int]:
    """So many tokens of other people's biographies."""
    tokens: list[int] = []
    for document in people.iter_documents(rng, num_tokens):
        if len(tokens) >= num_tokens:
            break
        tokens += decoder.requests.tokens("\n\n" + document, "prompt")
    return tokens[:num_tokens]


async def _text(decoder: Decoder, prompt: tuple[int, ...], memory: MemoryOptions) -> str:
    sampling = SamplingParameters(max_tokens=24, stop=("\n",))
    wanted = GenerationRequest(
        prompt="", prompt_tokens=prompt, max_tokens=24, sampling=sampling, memory=memory
    )
    with decoder.engine.generate(wanted) as stream:
        return "".join([event.text async for event in stream if isinstance(event, TextDelta)])


async def _time_per_token(decoder: Decoder, num_windows: int) -> dict[str, Any]:
    """Mean milliseconds of processor time per token in each window of output.

    Reading anew, writing and searching are included; the processor's time is that of the process,
    so that a busy machine does not count.
    """
    total = num_windows * decoder.context_length
    sampling = SamplingParameters(max_tokens=total, temperature=1.0, seed=1, ignore_eos=True)
    wanted = GenerationRequest(
        prompt="", prompt_tokens=(), max_tokens=total, sampling=sampling, memory=SESSION
    )
    times = [time.process_time()]
    with decoder.engine.generate(wanted) as stream:
        async for event in stream:
            if isinstance(event, TextDelta):
                times += [time.process_time()] * len(event.token_ids)
    size = decoder.context_length
    means = [
        1000 * (times[(number + 1) * size] - times[number * size]) / size
        for number in range(num_windows)
    ]
    return {"figure": "time", "ms_per_token": means, "last_over_second": means[-1] / means[1]}


def main() -> None:
    """Measure and show, a row a line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoder.sessions")
    parser.add_argument("--window", type=int, default=512, help="tokens; default: %(default)s")
    parser.add_argument("--text", type=Path, help="a long text, for its perplexity")
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoints/small"))
    parser.add_argument("--questions", type=int, default=12, help="default: %(default)s")
    parser.add_argument("--windows", type=int, default=10, help="default: %(default)s")
    options = parser.parse_args()
    if options.text is not None:
        text = options.text.read_text(encoding="utf-8")
        _show(measure_perplexity(options.checkpoint, text, window=options.window))
    _show(
        measure_sessions(
            options.checkpoint,
            window=options.window,
            num_questions=options.questions,
            num_windows=options.windows,
        )
    )


def _show(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()

"""Decoding with memories against decoding without, through the services over gRPC.

Source of the protocol: paper §7.3, 128 tokens in and 128 out, five memories for each chunk of 64.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from benchmarks.decoder.shapes import cut, texts
from benchmarks.decoder.sizes import Sizes
from benchmarks.decoder.stack import BANK, generate, references, require_whole, services
from memory3.checkpoint import Checkpoint

# What is asked where the time to the first token is measured: one chunk.
QUESTION_TOKENS = 64
NUM_MEMORIES = 5


def measure_memories(
    checkpoint: Checkpoint, folder: Path, *, dtype: str, sizes: Sizes
) -> dict[str, Any]:
    """Throughput of batches with every cache and with none, and times to the first token."""
    figures: dict[str, Any] = {}
    most = sizes.batches[-1]
    count = sizes.num_references
    with services(checkpoint, folder, dtype=dtype, cached=True, num_references=count) as address:
        for size in sizes.batches:
            figures[f"b{size}"] = _throughput(checkpoint, address, size, sizes, "warm")
        figures["first_token"] = _first_token(checkpoint, address, 3 * sizes.rounds)
    with services(checkpoint, folder, dtype=dtype, cached=False, num_references=count) as address:
        figures[f"b{most}_cold"] = _throughput(checkpoint, address, most, sizes, "cold")
    return figures


def _throughput(
    checkpoint: Checkpoint, address: str, size: int, sizes: Sizes, name: str
) -> dict[str, float]:
    """Tokens a second with memories and without, in turns; prefill and retrieval are in both."""
    prompts = [cut(checkpoint, text, sizes.num_in) for text in _long_texts(size)]
    speeds: dict[str, list[float]] = {BANK: [], "": []}
    for number in range(sizes.rounds + 1):
        for bank in speeds:
            num_tokens = sizes.num_out
            seconds, answers = generate(address, prompts, bank=bank, num_tokens=num_tokens)
            require_whole(answers)
            # The first round fills what there is of caches.
            if number:
                speeds[bank].append(size * num_tokens / seconds)
    with_memories, without = (statistics.median(speeds[bank]) for bank in (BANK, ""))
    ratios = [a / b for a, b in zip(speeds[BANK], speeds[""], strict=True)]
    return {
        f"tokens_per_second_{name}": with_memories,
        "tokens_per_second_without": without,
        "ratio": statistics.median(ratios),
    }


def _first_token(checkpoint: Checkpoint, address: str, rounds: int) -> dict[str, float]:
    """One question with five memories, with five references as text, and with neither."""
    question = cut(checkpoint, texts(1, seed=5)[0] + " " + texts(1, seed=6)[0], QUESTION_TOKENS)
    text = " ".join([*references(checkpoint, NUM_MEMORIES), question])
    ways = {"memory": (question, BANK), "text": (text, ""), "none": (question, "")}
    waits: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, (prompt, bank) in ways.items():
            _, (answer,) = generate(address, [prompt], bank=bank, num_tokens=2)
            require_whole([answer])
            if number:
                waits[name].append(answer.first_token_s)
    median = {name: statistics.median(each) for name, each in waits.items()}
    return {
        **{f"{name}_ms": 1000 * seconds for name, seconds in median.items()},
        "text_over_memory": median["text"] / median["memory"],
        "memory_over_none": median["memory"] / median["none"],
    }


def _long_texts(count: int) -> list[str]:
    parts = texts(3 * count, seed=2)
    return [" ".join(parts[3 * number : 3 * number + 3]) for number in range(count)]

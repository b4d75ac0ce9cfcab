"""Weights of eight bits against full ones: a step by batch, and a prompt, in turns on one thread.

    python -m benchmarks.decoder.weights [--shape 100m] [--rounds 14] [--output json]

The full weights are float32 and packed, which is what a processor gets unless told otherwise. Times
are the processor's own, so that other processes change them little; ratios count.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial

import torch

from benchmarks.decoder.shapes import SHAPES, random_model
from benchmarks.timing import seconds_side_by_side
from memory3.model.cache import SlotCache
from memory3.model.packing import pack
from memory3.model.transformer import Transformer

BATCHES = (1, 2, 4, 8, 16, 32)
PROMPTS = (64, 256)
NUM_BEFORE = 128


def measure_weights(shape: str, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each, and how many times as fast eight bits are, by what is done."""
    full = random_model(shape)
    short = random_model(shape).to(torch.bfloat16)
    pack(full)
    pack(short, weights="int8")
    models = {"full": full, "int8": short}
    figures = {}
    with torch.inference_mode():
        for size in BATCHES:
            ways = {name: _step(model, size, rounds) for name, model in models.items()}
            figures[f"step_b{size}"] = _row(ways, rounds)
        for number in PROMPTS:
            ways = {name: _prompt(model, number) for name, model in models.items()}
            figures[f"prompt_{number}"] = _row(ways, rounds)
    return figures


def _row(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    seconds = seconds_side_by_side(ways, rounds=rounds, clock=time.process_time)
    took = {f"{name}_ms": 1000 * each for name, each in seconds.items()}
    return {**took, "full_over_int8": seconds["full"] / seconds["int8"]}


def _step(model: Transformer, size: int, rounds: int) -> Callable[[], object]:
    cache = SlotCache(model, num_slots=size, context_length=NUM_BEFORE + rounds + 2)
    # As if that much had been read: what stands there takes no part in how long it takes.
    cache.lengths[:] = NUM_BEFORE
    slots = torch.arange(size)
    return partial(model.decode, cache, slots, slots + 50)


def _prompt(model: Transformer, number: int) -> Callable[[], object]:
    cache = SlotCache(model, num_slots=1, context_length=number)
    tokens = torch.arange(number) % 1000 + 10

    def read() -> None:
        cache.release(0)
        model.prefill(cache, 0, tokens)

    return read


def main() -> None:
    """Print the figures, as a table or as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.decoder.weights",
        description="Measure weights of eight bits against full ones.",
        epilog="example: python -m benchmarks.decoder.weights --rounds 7 --output json",
    )
    parser.add_argument("--shape", default="100m", choices=sorted(SHAPES))
    parser.add_argument("--rounds", default=14, type=int)
    parser.add_argument("--output", default="table", choices=("table", "json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures = measure_weights(options.shape, options.rounds)
    if options.output == "json":
        json.dump(figures, sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    sys.stdout.write("| | full, ms | int8, ms | full over int8 |\n|---|---|---|---|\n")
    for name, row in figures.items():
        full, short, ratio = (row[key] for key in ("full_ms", "int8_ms", "full_over_int8"))
        sys.stdout.write(f"| {name} | {full:.1f} | {short:.1f} | {ratio:.2f} |\n")


if __name__ == "__main__":
    main()

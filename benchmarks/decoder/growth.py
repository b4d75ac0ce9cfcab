"""How time grows with sequences at once, with the context, and with references for each chunk.

Through the services over gRPC, with memories; each curve beside its own first point.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.decoder.shapes import cut, random_checkpoint, texts
from benchmarks.decoder.sizes import Sizes
from benchmarks.decoder.stack import BANK, CONTEXT_LENGTH, generate, require_whole, services
from memory3.checkpoint import Checkpoint

NUM_MEMORIES = 5


def measure_growth(shape: str, folder: Path, *, dtype: str, sizes: Sizes) -> dict[str, Any]:
    """Three curves: ``batch``, ``context`` and ``references``, each a list of points."""
    most = max(*sizes.growth_references, NUM_MEMORIES)
    checkpoint = random_checkpoint(folder, shape, references_per_chunk=most)
    with services(
        checkpoint,
        folder / "growth",
        dtype=dtype,
        cached=True,
        num_slots=max(sizes.growth_batches),
        num_references=sizes.num_references,
    ) as address:

        def run(prompts: list[str], num_memories: int) -> dict[str, float]:
            return _point(address, prompts, num_memories, sizes)

        prompts = _prompts(checkpoint, max(sizes.growth_batches), sizes.num_in)
        room = CONTEXT_LENGTH - sizes.growth_out - 8
        return {
            "batch": _curve(
                "sequences", sizes.growth_batches, lambda n: run(prompts[:n], NUM_MEMORIES)
            ),
            "context": _curve(
                "share",
                sizes.growth_context,
                lambda share: run(_prompts(checkpoint, 1, int(share * room)), NUM_MEMORIES),
            ),
            "references": _curve(
                "references", sizes.growth_references, lambda n: run(prompts[:1], n)
            ),
        }


def _curve(
    name: str, values: Iterable[float], measure: Callable[[Any], dict[str, float]]
) -> list[dict[str, float]]:
    points = [{name: value, **measure(value)} for value in values]
    for point in points:
        for each in ("token_ms", "first_token_ms", "tokens_per_second"):
            point[f"{each}_ratio"] = point[each] / points[0][each]
    return points


def _point(address: str, prompts: list[str], num_memories: int, sizes: Sizes) -> dict[str, float]:
    """Medians of the time to the first token, of each later one, and tokens a second of all."""
    firsts, each, speeds = [], [], []
    for number in range(min(sizes.rounds, 2) + 1):
        seconds, answers = generate(
            address,
            prompts,
            bank=BANK,
            num_tokens=sizes.growth_out,
            num_memories=num_memories,
        )
        require_whole(answers)
        if number:
            firsts += [answer.first_token_s for answer in answers]
            each += [(a.total_s - a.first_token_s) / (sizes.growth_out - 1) for a in answers]
            speeds.append(len(prompts) * sizes.growth_out / seconds)
    return {
        "first_token_ms": 1000 * statistics.median(firsts),
        "token_ms": 1000 * statistics.median(each),
        "tokens_per_second": statistics.median(speeds),
    }


def _prompts(checkpoint: Checkpoint, count: int, num_tokens: int) -> list[str]:
    # A biography has some 60 tokens.
    each = num_tokens // 40 + 2
    parts = texts(each * count, seed=2)
    return [
        cut(checkpoint, " ".join(parts[each * n : each * (n + 1)]), num_tokens)
        for n in range(count)
    ]

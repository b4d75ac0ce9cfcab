"""The parts of the benchmark by name, and the keys under which each gives its figures.

Keys are what others read from build/bench/decoder.json: they are only ever added to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.decoder.bulk import measure_bulk
from benchmarks.decoder.growth import measure_growth
from benchmarks.decoder.memories import measure_memories
from benchmarks.decoder.plain import BATCHES, DTYPES, measure_plain
from benchmarks.decoder.shapes import SHAPES, random_checkpoint
from benchmarks.decoder.sizes import Sizes
from benchmarks.decoder.writing import measure_writing

Figures = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """What is measured and how much of it.

    Attributes:
        shape: Of all rows but the last of plain decoding.
        large: Of that.
        dtype: Number format of the decoder.
        folder: For checkpoints, banks and logs.
        sizes: How much.
    """

    shape: str
    large: str
    dtype: str
    folder: Path
    sizes: Sizes


def _plain(run: Run, shape: str, sizes: Sizes, end: str) -> tuple[Figures, Figures]:
    """Plain decoding and writing of a shape; keys of the large one end in its name."""
    writing = measure_writing(shape, sizes.rounds + 2)
    figures: Figures = {f"write_over_full_forward{end}": writing["over_full_forward"]}
    plain = measure_plain(SHAPES[shape], shape, run.folder, sizes)
    for dtype in DTYPES:
        kind = "" if dtype == run.dtype else f"_{dtype}"
        for size in BATCHES:
            row = plain[f"{dtype}_b{size}"]
            figures[f"vs_transformers_b{size}{kind}{end}"] = row["vs_transformers"]
            if "vs_llama_cpp" in row:
                figures[f"vs_llamacpp_b{size}{kind}{end}"] = row["vs_llama_cpp"]
            share = row["share_of_bandwidth"]["memory3"]
            figures[f"share_of_bandwidth_b{size}{kind}{end}"] = share
    return figures, {"writing": writing, **plain}


def _memories(run: Run) -> tuple[Figures, Figures]:
    checkpoint = random_checkpoint(run.folder, run.shape)
    found = measure_memories(checkpoint, run.folder, dtype=run.dtype, sizes=run.sizes)
    most = run.sizes.batches[-1]
    figures: Figures = {
        f"memory_ratio_warm_b{size}": found[f"b{size}"]["ratio"] for size in run.sizes.batches
    }
    figures[f"memory_ratio_cold_b{most}"] = found[f"b{most}_cold"]["ratio"]
    figures["ttft_text_over_memory"] = found["first_token"]["text_over_memory"]
    figures["ttft_memory_over_none"] = found["first_token"]["memory_over_none"]
    return figures, found


def _bulk(run: Run) -> tuple[Figures, Figures]:
    found = measure_bulk(random_checkpoint(run.folder, run.shape), run.folder, run.sizes)
    return {"bulk_add_over_bare_writer": found["ratio"]}, found


def _growth(run: Run) -> tuple[Figures, Figures]:
    found = measure_growth(run.shape, run.folder, dtype=run.dtype, sizes=run.sizes)
    figures = {}
    for curve, points in found.items():
        last = points[-1]
        for key in ("token_ms", "first_token_ms", "tokens_per_second"):
            figures[f"growth_{curve}_{key}_ratio"] = last[f"{key}_ratio"]
    return figures, found


ROWS: dict[str, Callable[[Run], tuple[Figures, Figures]]] = {
    "plain": lambda run: _plain(run, run.shape, run.sizes, ""),
    "large": lambda run: _plain(run, run.large, run.sizes.of_large(), f"_{run.large}"),
    "memories": _memories,
    "bulk": _bulk,
    "growth": _growth,
}

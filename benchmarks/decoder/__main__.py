"""Measure the decoder: `python -m benchmarks.decoder`; writes build/bench/decoder.json.

Everything takes turns in one run on one thread of the model's, so that a busy machine slows all
alike; the ratios are what counts. Models have random weights: speed does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.decoder.memories import measure_memories
from benchmarks.decoder.plain import measure_plain
from benchmarks.decoder.shapes import SHAPES, random_checkpoint
from benchmarks.decoder.writing import measure_writing


def main() -> None:
    """Measure, show and save."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.decoder",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--shape", choices=SHAPES, default="100m", help="default: %(default)s")
    parser.add_argument("--large", choices=SHAPES, default="500m", help="of plain decoding too")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("build/bench/decoder.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="memory3-bench-") as scratch:
        figures = _measure(options, Path(scratch))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    table = Table("figure", "value", title=f"decoder, {options.shape}, {options.dtype}")
    for name, value in figures.items():
        if not isinstance(value, dict | str):
            table.add_row(name.replace("_", " "), f"{value:,.3f}")
    Console().print(table)


def _measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    figures: dict[str, Any] = {"shape": options.shape, "dtype": options.dtype}
    _tell("writing")
    writing = measure_writing(options.shape, options.rounds + 2)
    figures["write_over_full_forward"] = writing["over_full_forward"]
    details: dict[str, Any] = {"writing": writing}
    for shape in dict.fromkeys((options.shape, options.large)):
        _tell(f"plain decoding of {shape}")
        plain = details[f"plain_{shape}"] = measure_plain(
            SHAPES[shape], shape, folder, options.rounds
        )
        end = "" if shape == options.shape else f"_{shape}"
        for size in (1, 8):
            row = plain[f"{options.dtype}_b{size}"]
            figures[f"vs_transformers_b{size}{end}"] = row["vs_transformers"]
            if "vs_llama_cpp" in row:
                figures[f"vs_llamacpp_b{size}{end}"] = row["vs_llama_cpp"]
        figures[f"share_of_bandwidth{end}"] = plain[f"{options.dtype}_b1"]["share_of_bandwidth"]
    _tell("memories")
    checkpoint = random_checkpoint(folder, options.shape)
    memories = details["memories"] = measure_memories(
        checkpoint, folder, dtype=options.dtype, rounds=options.rounds
    )
    for size in (1, 8, 32):
        figures[f"memory_ratio_warm_b{size}"] = memories[f"b{size}"]["ratio"]
    figures["memory_ratio_cold_b32"] = memories["b32_cold"]["ratio"]
    figures["ttft_text_over_memory"] = memories["first_token"]["text_over_memory"]
    figures["ttft_memory_over_none"] = memories["first_token"]["memory_over_none"]
    return figures | {"details": details}


def _tell(what: str) -> None:
    print(f"{what} …", file=sys.stderr, flush=True)


main()

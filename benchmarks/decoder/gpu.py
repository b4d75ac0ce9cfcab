"""Measure decoding on a GPU: `python -m benchmarks.decoder.gpu`; writes build/bench/gpu.json.

A preset with random weights; 128 tokens in and 128 out, greedy, with and without five memories for
each of two chunks of the prompt and for the second half of the answer; one step after the other. On
a processor a small preset runs through the same script, as its test does.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from memory3.errors import Memory3Error
from memory3.memory.tensors import MemoryTensors
from memory3.memory.writer import MemoryWriter
from memory3.model.cache import SlotCache
from memory3.model.config import PRESETS, preset
from memory3.model.placement import check_device, choose_dtype
from memory3.model.static_step import StaticStep
from memory3.model.step import DecodeStep, EagerStep, make_step
from memory3.model.transformer import Transformer

NUM_PROFILED = 5
NUM_ROWS = 15


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        batches: Sequences at once.
        num_in: Tokens of a prompt.
        num_out: Tokens of an answer.
        num_references: References written at once.
        copy_bytes: Bytes that the copy kernel copies.
    """

    batches: Sequence[int]
    num_in: int
    num_out: int
    num_references: int
    copy_bytes: int


class Bench:
    """One model on one device.

    Args:
        name: The preset.
        device: Where it runs.
        dtype: `auto`, `float32` or `bfloat16`.
    """

    def __init__(self, name: str, device: torch.device, dtype: str) -> None:
        self.device = device
        with device:
            model = Transformer(preset(name))
        model.reset_parameters(torch.Generator(device).manual_seed(0))
        model = model.to(choose_dtype(dtype, device))
        self.model = model.eval().requires_grad_(False)
        length = model.config.memory.reference_length
        self.reference = [7 + n % 1000 for n in range(length)]
        self.num_memories = model.config.memory.references_per_chunk

    def measure(self, plan: Plan) -> dict[str, Any]:
        """All figures."""
        bandwidth = self._bandwidth(plan.copy_bytes)
        figures: dict[str, Any] = {
            "preset": self.model.config.name,
            "device": _name(self.device),
            "torch": torch.__version__,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "copy_bytes_per_second": bandwidth,
            "written_references_per_second": self._writing(plan.num_references),
            "decoding": [],
        }
        memories = MemoryWriter(self.model, self.model.config).write(
            [self.reference] * self.num_memories
        )
        for size in plan.batches:
            context = plan.num_in + plan.num_out + NUM_PROFILED
            cache = SlotCache(self.model, num_slots=size, context_length=context)
            steps = self._steps(cache)
            for name, step in steps.items():
                step.prepare()
                for given in ((), memories):
                    self._answer(cache, step, plan, given, 2)
                    row = self._answer(cache, step, plan, given, plan.num_out)
                    row |= {"batch": size, "step": name, "memories": len(given)}
                    if size == 1:
                        moved = self._bytes_of_a_step(plan, bool(given))
                        row["share_of_bandwidth"] = moved / row["step_seconds"] / bandwidth
                    figures["decoding"].append(row)
            if size == plan.batches[0]:
                figures["where_a_step_goes"] = {}
                for name, step in steps.items():
                    # The slots are as they were before an answer.
                    self._answer(cache, step, plan, memories, 1)
                    figures["where_a_step_goes"][name] = self._profile(step, size)
        return figures

    def _steps(self, cache: SlotCache) -> dict[str, DecodeStep]:
        eager = EagerStep(self.model, cache)
        if self.device.type == "cuda":
            return {"eager": eager, "graphs": make_step("graphs", self.model, cache)}
        return {"eager": eager, "static": StaticStep(self.model, cache)}

    def _answer(
        self,
        cache: SlotCache,
        step: DecodeStep,
        plan: Plan,
        memories: Sequence[MemoryTensors],
        num_out: int,
    ) -> dict[str, Any]:
        """Read the prompts and answer them, every token read by the host as a decoder does."""
        slots = range(cache.num_slots)
        prompt = torch.arange(10, 10 + plan.num_in, device=self.device)
        chunks = [memories] * self.model.layout.num_chunks(plan.num_in) if memories else None
        self._wait()
        started = time.perf_counter()
        tokens = []
        for slot in slots:
            cache.release(slot)
            logits = self.model.prefill(cache, slot, prompt, chunks).logits
            tokens.append(int(logits.argmax()))
        read = time.perf_counter()
        for number in range(num_out):
            if memories and number == num_out // 2:
                for slot in slots:
                    cache.attach(slot, memories)
            tokens = step(slots, tokens).logits.argmax(dim=-1).tolist()
        ended = time.perf_counter()
        return {
            "tokens_per_second": len(slots) * num_out / (ended - started),
            "prefill_seconds": read - started,
            "step_seconds": (ended - read) / num_out,
        }

    def _bytes_of_a_step(self, plan: Plan, with_memories: bool) -> int:
        """Weights, and the columns read in the middle of an answer, for one sequence."""
        config = self.model.config
        weights = config.num_non_embedding_parameters + config.vocab_size * config.width
        columns = config.num_layers * (len(config.prefix_ids) + plan.num_in + plan.num_out // 2)
        if with_memories:
            kept = self.num_memories * config.memory.tokens_kept
            columns += config.memory.num_memory_layers * kept
        values = weights + columns * 2 * config.num_kv_heads * config.head_dim
        return values * self.model.dtype.itemsize

    def _writing(self, count: int) -> float:
        writer = MemoryWriter(self.model, self.model.config)
        writer.write([self.reference] * count)
        self._wait()
        started = time.perf_counter()
        writer.write([self.reference] * count)
        self._wait()
        return count / (time.perf_counter() - started)

    def _bandwidth(self, num_bytes: int) -> float:
        """Bytes a second that a copy reads and writes."""
        source = torch.ones(num_bytes, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        seconds = []
        for _ in range(8):
            self._wait()
            started = time.perf_counter()
            target.copy_(source)
            self._wait()
            seconds.append(time.perf_counter() - started)
        return 2 * num_bytes / min(seconds)

    def _profile(self, step: DecodeStep, size: int) -> list[dict[str, Any]]:
        """The operations or kernels that take most of some steps; microseconds of one step."""
        from torch.profiler import ProfilerActivity, profile

        is_cuda = self.device.type == "cuda"
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_cuda else [])]
        with profile(activities=activities) as profiler:
            for _ in range(NUM_PROFILED):
                step(range(size), [7] * size).logits.argmax(dim=-1).tolist()
        time_of = "self_device_time_total" if is_cuda else "self_cpu_time_total"
        events = sorted(profiler.key_averages(), key=lambda e: -getattr(e, time_of))
        return [
            {
                "what": event.key[:80],
                "microseconds": getattr(event, time_of) / NUM_PROFILED,
                "calls": event.count / NUM_PROFILED,
            }
            for event in events[:NUM_ROWS]
        ]

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, show and save."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.decoder.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--preset", choices=sorted(PRESETS), default="memory3-2b")
    parser.add_argument("--device", default="cuda", help="default: %(default)s")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument(
        "--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64, 128, 256]
    )
    parser.add_argument("--num-in", type=int, default=128, help="default: %(default)s")
    parser.add_argument("--num-out", type=int, default=128, help="default: %(default)s")
    parser.add_argument("--references", type=int, default=64, help="written at once")
    parser.add_argument("--copy-mib", type=int, default=1024, help="copied for the bandwidth")
    parser.add_argument("--output", choices=("table", "json"), default="table")
    parser.add_argument("--out", type=Path, default=Path("build/bench/gpu.json"))
    options = parser.parse_args(arguments)
    try:
        device = check_device(options.device)
    except Memory3Error as error:
        print(f"error: {error}; nothing was measured", file=sys.stderr)
        return 1
    plan = Plan(
        options.batches, options.num_in, options.num_out, options.references, options.copy_mib << 20
    )
    with torch.inference_mode():
        figures = Bench(options.preset, device, options.dtype).measure(plan)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if options.output == "json":
        print(json.dumps(figures))
    else:
        _show(figures)
    return 0


def _show(figures: dict[str, Any]) -> None:
    console = Console()
    table = Table(title=f"{figures['preset']}, {figures['dtype']}, {figures['device']}")
    for title in ("batch", "step", "memories", "tokens/s", "ms a step", "of bandwidth"):
        table.add_column(title, justify="right")
    for row in figures["decoding"]:
        share = f"{row['share_of_bandwidth']:.0%}" if "share_of_bandwidth" in row else ""
        table.add_row(
            str(row["batch"]), row["step"], str(row["memories"]),
            f"{row['tokens_per_second']:,.0f}", f"{1000 * row['step_seconds']:,.2f}", share,
        )  # fmt: skip
    console.print(table)
    written, copied = figures["written_references_per_second"], figures["copy_bytes_per_second"]
    console.print(f"written: {written:,.1f} references/s; copied: {copied / 1e9:,.0f} GB/s")
    for name, rows in figures["where_a_step_goes"].items():
        table = Table("what", "µs a step", "calls", title=f"where a step goes: {name}")
        for row in rows:
            table.add_row(row["what"], f"{row['microseconds']:,.1f}", f"{row['calls']:,.1f}")
        console.print(table)


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


if __name__ == "__main__":
    raise SystemExit(main())

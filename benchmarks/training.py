"""Speed of training: `python -m benchmarks.training`; writes build/bench/training.json.

Side by side in one run, same shape, same tokens, same optimiser: a warmup step against a step of a
plain `transformers` Llama, and a continual step (every 64-token chunk reads its own reference and
those of the four before, all encoded in the step) against a warmup step. Paper §7: a continual
step takes slightly over 2 warmup steps.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from memory3_trainer.allocator import keep_freed_memory
from memory3_trainer.optimizers import make_optimizers
from memory3_trainer.stages.batch import Example, MemoryBatch, collate
from memory3_trainer.stages.forward import Selection
from memory3_trainer.stages.objectives import NextToken
from rich.console import Console
from rich.table import Table

from benchmarks.timing import seconds_side_by_side
from memory3 import plugins
from memory3.model.config import ModelConfig, preset
from memory3.model.transformer import Transformer


def measure(
    config: ModelConfig, *, device: str, batch_size: int, length: int, rounds: int
) -> dict[str, Any]:
    """Tokens a second and ratios of one shape.

    Args:
        config: The shape.
        device: ``cpu`` or ``cuda``.
        batch_size: Sequences of a step.
        length: Tokens of a sequence, whole chunks.
        rounds: How often each is timed; the median counts.
    """
    plain, reading = _batches(config, batch_size, length)
    steps = {
        "llama": _llama_step(config, plain.to(device), device),
        "warmup": _step(config, plain.to(device), device),
        "continual": _step(config, reading.to(device), device),
    }
    seconds = seconds_side_by_side(steps, rounds=rounds)
    tokens = batch_size * length
    flops = tokens * (6 * config.num_parameters + 6 * config.num_layers * config.width * length)
    return {
        "shape": {"name": config.name, "parameters": config.num_parameters},
        "device": device,
        "batch_size": batch_size,
        "length": length,
        "tokens_per_second": {name: tokens / value for name, value in seconds.items()},
        "teraflops": {
            name: flops / value / 1e12 for name, value in seconds.items() if name != "continual"
        },
        "warmup_over_llama": seconds["llama"] / seconds["warmup"],
        "continual_over_warmup": seconds["continual"] / seconds["warmup"],
    }


def _batches(config: ModelConfig, batch_size: int, length: int) -> tuple[MemoryBatch, MemoryBatch]:
    """The same text without references, and with one for each chunk."""
    generator = torch.Generator().manual_seed(0)

    def tokens(count: int) -> list[int]:
        drawn = torch.randint(3, config.vocab_size, (count,), generator=generator)
        return [int(token) for token in drawn]

    memory = config.memory
    num_chunks = length // memory.chunk_length
    texts = [tokens(length) for _ in range(batch_size)]
    references = [tokens(memory.reference_length) for _ in range(batch_size * num_chunks)]
    width = memory.references_per_chunk

    def rows(sequence: int) -> list[list[int]]:
        first = sequence * num_chunks
        return [
            [first + chunk for chunk in range(max(0, last - width + 1), last + 1)]
            for last in range(num_chunks)
        ]

    made = []
    for chunks in ([[] for _ in texts], [rows(place) for place in range(batch_size)]):
        examples = [
            Example(text, [1.0] * length, own) for text, own in zip(texts, chunks, strict=True)
        ]
        made.append(
            collate(
                examples,
                references,
                separator_id=config.separator_id,
                pad_id=config.pad_id,
                chunk_length=memory.chunk_length,
            )
        )
    return made[0], made[1]


def _step(config: ModelConfig, batch: MemoryBatch, device: str) -> Callable[[], None]:
    model = Transformer(config)
    model.reset_parameters(torch.Generator().manual_seed(0))
    model.to(device).train()
    (optimizer,) = make_optimizers(model, 1e-4, "adamw")
    memory = config.memory
    selection = Selection(plugins.load("selectors", memory.selector)(), memory.tokens_kept)
    objective = NextToken()

    def run() -> None:
        with torch.autocast(device, torch.bfloat16):
            loss = objective.loss(model, batch, selection) / objective.weight(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        _settle(device)

    return run


def _llama_step(config: ModelConfig, batch: MemoryBatch, device: str) -> Callable[[], None]:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.width,
            intermediate_size=config.mlp_width,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            tie_word_embeddings=config.tie_embeddings,
            max_position_embeddings=config.context_length,
            use_cache=False,
            attn_implementation="sdpa",
        )
    )
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)

    def run() -> None:
        with torch.autocast(device, torch.bfloat16):
            loss = model(input_ids=batch.tokens, labels=batch.tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        _settle(device)

    return run


def _settle(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Measure, show and save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--batch-size", default=4, type=int)
    parser.add_argument("--length", default=512, type=int)
    parser.add_argument("--rounds", default=5, type=int)
    parser.add_argument("--out", default="build/bench/training.json", type=Path)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    figures = measure(
        preset(options.preset),
        device=options.device,
        batch_size=options.batch_size,
        length=options.length,
        rounds=options.rounds,
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    table = Table("figure", "value", title=f"training {options.preset} on {options.device}")
    for name, value in figures["tokens_per_second"].items():
        table.add_row(f"{name}: tokens/s", f"{value:,.0f}")
    table.add_row("warmup ÷ transformers Llama, tokens/s", f"{figures['warmup_over_llama']:.2f}")
    table.add_row("continual ÷ warmup, seconds a step", f"{figures['continual_over_warmup']:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()

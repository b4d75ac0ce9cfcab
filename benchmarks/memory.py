"""Writing and reading memories: speed against doing without, and bytes.

Source of the comparison: paper §3.4 (writing runs half the network), §4 (reading), §5 (bytes).
"""

from __future__ import annotations

import math
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from benchmarks.codecs import measure_codecs
from benchmarks.timing import seconds_side_by_side
from memory3 import plugins
from memory3.checkpoint import Checkpoint
from memory3.codecs.loading import load_codec
from memory3.errors import CheckpointError
from memory3.memory.tensors import MemoryTensors
from memory3.memory.writer import MemoryWriter, to_envelope
from memory3.model.cache import SlotCache
from memory3.model.transformer import Transformer
from memory3.people import biography, prompt, sample_people

NUM_REFERENCES = 64
NUM_NEW_TOKENS = 64


@torch.inference_mode()
def measure(path: Path) -> dict[str, Any]:
    """All figures of one checkpoint, in float32 on one thread."""
    torch.set_num_threads(1)
    checkpoint = Checkpoint.open(path)
    model = checkpoint.load_model(dtype=torch.float32, packed=True)
    rng = Random(0)
    texts = [biography(rng, person) for person in sample_people(rng, NUM_REFERENCES)]
    references = [
        item.ids for item in checkpoint.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    ]
    question = checkpoint.tokenizer.encode(prompt("Where was Ada Brook born?")).ids
    memories = MemoryWriter(model, checkpoint.config).write(references)
    return {
        "checkpoint": checkpoint.config.name,
        "digest": checkpoint.digest,
        "bytes": _bytes(checkpoint, memories[0], texts[0]),
        "write": _write(model, checkpoint, references),
        "first_token": _first_token(model, references[:5], memories[:5], question),
        "decode": _decode(model, memories[:5], question),
        "codecs": measure_codecs(checkpoint.config),
    }


def _bytes(checkpoint: Checkpoint, memory: MemoryTensors, text: str) -> dict[str, Any]:
    """Bytes of one reference: by the formula and as measured."""
    sizes: dict[str, Any] = {"text": len(text.encode())}
    for name in plugins.names("codecs"):
        try:
            codec = load_codec(name, checkpoint.codec_file)
        except CheckpointError:  # what it needs was not trained for this checkpoint
            continue
        sizes[name] = {
            "envelope": len(to_envelope(memory, codec, checkpoint.digest)),
            "payload": codec.payload_bytes(checkpoint.config.memory_shape),
        }
    sizes["formula"] = "2 bytes × memory layers × 2 × KV heads × tokens kept × head dim"
    sizes["formula_gives"] = 2 * math.prod(checkpoint.config.memory_shape)
    return sizes


def _write(
    model: Transformer, checkpoint: Checkpoint, references: list[list[int]]
) -> dict[str, float]:
    """References a second, against a plain forward of the whole network over the same tokens."""
    writer = MemoryWriter(model, checkpoint.config)
    prefix = checkpoint.config.prefix_ids
    longest = max(len(ids) for ids in references)
    rows = [
        [*prefix, *ids, *[checkpoint.config.pad_id] * (longest - len(ids))] for ids in references
    ]
    tokens = torch.tensor(rows)
    positions = torch.arange(tokens.shape[1])
    causal = positions[None, :] <= positions[:, None]
    seconds = seconds_side_by_side(
        {
            "write": lambda: writer.write(references),
            "full_forward": lambda: model.logits(model(tokens, positions, causal)),
        }
    )
    return {
        "references_per_second": len(references) / seconds["write"],
        "write_over_full_forward": seconds["full_forward"] / seconds["write"],
    }


def _first_token(
    model: Transformer,
    references: list[list[int]],
    memories: list[MemoryTensors],
    question: list[int],
) -> dict[str, float]:
    """Time to the first token with five memories, the same five as text, and neither."""
    cache = SlotCache(model, num_slots=1)
    text = [token for ids in references for token in ids] + question

    def prefill(tokens: list[int], attached: list[MemoryTensors]) -> Tensor:
        cache.release(0)
        return model.prefill(
            cache, 0, torch.tensor(tokens), [attached] if attached else None
        ).logits

    seconds = seconds_side_by_side(
        {
            "memory": lambda: prefill(question, memories),
            "text": lambda: prefill(text, []),
            "none": lambda: prefill(question, []),
        },
        rounds=25,
    )
    return {
        "text_over_memory": seconds["text"] / seconds["memory"],
        "memory_over_none": seconds["memory"] / seconds["none"],
    }


def _decode(
    model: Transformer, memories: list[MemoryTensors], question: list[int]
) -> dict[str, float]:
    """Tokens a second of one sequence with five memories attached, against none."""
    cache = SlotCache(model, num_slots=1)
    slots = torch.tensor([0])

    def decode(attached: list[MemoryTensors]) -> None:
        cache.release(0)
        out = model.prefill(cache, 0, torch.tensor(question), [attached] if attached else None)
        for _ in range(NUM_NEW_TOKENS):
            out = model.decode(cache, slots, out.logits.argmax(-1))

    seconds = seconds_side_by_side(
        {"with": lambda: decode(memories), "without": lambda: decode([])}
    )
    return {
        "tokens_per_second": NUM_NEW_TOKENS / seconds["with"],
        "with_over_without": seconds["without"] / seconds["with"],
    }

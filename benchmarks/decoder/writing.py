"""Writing memories against a plain full forward of the same model over the same references."""

from __future__ import annotations

import torch

from benchmarks.decoder.shapes import random_model
from benchmarks.timing import seconds_side_by_side
from memory3.memory.writer import MemoryWriter
from memory3.model.packing import pack

NUM_REFERENCES = 8


@torch.inference_mode()
def measure_writing(shape: str, rounds: int) -> dict[str, float]:
    """References a second, and the ratio; float32, one thread."""
    model = random_model(shape)
    pack(model)
    length = model.config.memory.reference_length
    references = [
        [(7 * row + n) % 8000 + 8 for n in range(length)] for row in range(NUM_REFERENCES)
    ]
    prefix = list(model.config.prefix_ids)
    tokens = torch.tensor([prefix + reference for reference in references])
    positions = torch.arange(tokens.shape[1])
    causal = positions[None, :] <= positions[:, None]
    writer = MemoryWriter(model, model.config)
    took = seconds_side_by_side(
        {
            "write": lambda: writer.write(references),
            "full_forward": lambda: model.logits(model(tokens, positions, causal)),
        },
        rounds=rounds,
    )
    return {
        "references_per_second": NUM_REFERENCES / took["write"],
        "over_full_forward": took["full_forward"] / took["write"],
    }

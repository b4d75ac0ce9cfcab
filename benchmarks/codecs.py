"""Codecs: memories decoded together by each, as a ratio to raw within the same run (paper §5).

The decoder decodes what a chunk finds before it can be read, so this is what a smaller memory costs
there; its bytes cross from drive and network in less time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import seconds_side_by_side
from memory3.codecs.base import Codec, Shape
from memory3.codecs.codebooks import Codebooks
from memory3.codecs.int8 import Int8Codec
from memory3.codecs.opq import OpqCodec
from memory3.codecs.raw import RawCodec
from memory3.model.config import PRESETS, ModelConfig

# Those of one chunk, and of a prompt of 16 chunks.
BATCHES = (5, 80)
CPU = torch.device("cpu")


def measure_codecs(config: ModelConfig) -> dict[str, Any]:
    """Seconds to decode, and to encode one memory, over those of raw; and bytes over those of raw.

    Random codebooks stand in for trained ones: every code takes the same steps.

    Args:
        config: Of the checkpoint; memory3-2b is measured beside it.
    """
    configs = {config.name: config, "memory3-2b": PRESETS["memory3-2b"]}
    return {name: _measure(shape.memory_shape) for name, shape in configs.items()}


def _measure(shape: Shape) -> dict[str, Any]:
    codecs: tuple[Codec, ...] = (RawCodec(), Int8Codec(), OpqCodec(random_codebooks(shape)))
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    payloads = {codec.name: codec.encode(values) for codec in codecs}
    figures: dict[str, Any] = {
        "bytes": {name: len(payload) for name, payload in payloads.items()},
        "encode": _ratios({codec.name: _encoding(codec, values) for codec in codecs}),
    }
    for number in BATCHES:
        figures[f"decode_{number}"] = _ratios(
            {
                codec.name: _decoding(codec, number * [payloads[codec.name]], shape)
                for codec in codecs
            }
        )
    return figures


def _encoding(codec: Codec, values: Tensor) -> Callable[[], object]:
    return lambda: codec.encode(values)


def _decoding(codec: Codec, payloads: list[bytes], shape: Shape) -> Callable[[], object]:
    return lambda: codec.decode_batch(payloads, shape, dtype=torch.float32, device=CPU)


def _ratios(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Milliseconds of raw, and how many times as long each of the others takes."""
    seconds = seconds_side_by_side(ways, clock=time.process_time)
    raw = seconds.pop("raw")
    return {"raw_ms": 1000 * raw, **{f"{name}_over_raw": s / raw for name, s in seconds.items()}}


def random_codebooks(shape: Shape) -> Codebooks:
    """Codebooks of the size that the trainer takes for heads of this width."""
    from memory3_trainer.quantiser.settings import QuantiserSettings

    layers, pair, heads, _, width = shape
    layout = QuantiserSettings(width).layout
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, 2, 2, 1 << layout.coarse_bits, width // 2, generator=generator)
    fine_shape = (1, 2, layout.num_parts, 1 << layout.fine_bits, width // layout.num_parts)
    return Codebooks(
        torch.zeros(layers, pair, heads, width),
        torch.ones(layers, pair, heads),
        torch.linalg.qr(torch.randn(1, 2, width, width, generator=generator)).Q,
        coarse,
        torch.randn(fine_shape, generator=generator),
    )

"""Oracle: the paper's sizes follow from the configuration alone (paper §5)."""

from __future__ import annotations

import math

import faiss
import torch
from memory3_trainer.quantiser.settings import QuantiserSettings

from memory3.codecs.codebooks import Codebooks
from memory3.codecs.opq import OpqCodec
from memory3.model.config import preset

CONFIG = preset("memory3-2b")


def test_a_vector_takes_fourteen_bytes() -> None:
    """The paper's quantiser, by its name for faiss, in whose own words the code is as long."""
    settings = QuantiserSettings(head_dim=CONFIG.head_dim)
    assert settings.factory == "OPQ20_80,Residual2x14,PQ8x10"
    assert settings.layout.num_bytes == 14
    assert faiss.index_factory(80, settings.factory).sa_code_size() == 14


def test_a_memory_takes_39424_bytes() -> None:
    """Of memory3-2b: 22 layers, keys and values, 8 heads, 8 tokens; raw 450,560."""
    layers, pair, heads, _, width = shape = CONFIG.memory_shape
    books = Codebooks(
        torch.zeros(layers, pair, heads, width),
        torch.ones(layers, pair, heads),
        torch.eye(width).expand(1, 2, -1, -1),
        torch.zeros(1, 2, 2, 1 << 14, width // 2),
        torch.zeros(1, 2, 8, 1 << 10, width // 8),
    )
    codec = OpqCodec(books)
    assert codec.payload_bytes(shape) == 39_424
    assert 2 * math.prod(shape) == 450_560
    payload = codec.encode(torch.zeros(shape))
    assert len(payload) == 39_424
    decoded = codec.decode(payload, shape, dtype=torch.bfloat16, device=torch.device("cpu"))
    assert decoded.shape == shape

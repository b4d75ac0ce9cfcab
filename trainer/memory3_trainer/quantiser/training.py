"""Trains codebooks with faiss from sampled keys and values. The only module that knows faiss.

Shapes: V memories, L memory layers, K KV heads, N tokens kept, D head dim, Q quantisers for each of
key and value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memory3.codecs.codebooks import Codebooks
from memory3.errors import InvalidArgumentError
from memory3_trainer.quantiser.settings import QuantiserSettings

Vectors = NDArray[np.float32]
_SMALLEST_SCALE = 1e-6


def train_codebooks(
    key_values: Tensor,
    num_kept: Tensor,
    settings: QuantiserSettings,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Codebooks:
    """Train keys and values separately.

    Args:
        key_values: Of sampled memories, [V, L, 2, K, N, D].
        num_kept: Valid tokens of each, [V]; the rest is not trained on.
        settings: Size of the quantiser.
        progress: Told how many of how many quantisers are trained.

    Raises:
        InvalidArgumentError: There are fewer vectors than centroids.
    """
    N = key_values.shape[4]
    valid = torch.arange(N) < num_kept[:, None]  # [V, N]
    moved = key_values.float().permute(1, 2, 3, 0, 4, 5)  # [L, 2, K, V, N, D]
    vectors = moved[:, :, :, valid]  # [L, 2, K, V * N, D]
    mean = vectors.mean(dim=3)
    vectors -= mean[:, :, :, None]  # a copy already
    scale = vectors.square().mean(dim=(3, 4)).sqrt().clamp(min=_SMALLEST_SCALE)
    vectors /= scale[..., None, None]
    groups = vectors if settings.per_layer else vectors.transpose(0, 1).flatten(1, 2)[None]
    generator = np.random.default_rng(settings.seed)
    total, trained = 2 * len(groups), []
    for group in groups:
        for kind in range(2):
            rows = group[kind].reshape(-1, settings.head_dim).numpy()
            trained.append(extract(train_index(_drawn(rows, settings, generator), settings)))
            progress(len(trained), total)
    stacked = [torch.from_numpy(np.stack(part)) for part in zip(*trained, strict=True)]
    rotation, coarse, fine = (part.view(-1, 2, *part.shape[1:]) for part in stacked)
    return Codebooks(mean, scale, rotation, coarse, fine)


def _drawn(rows: Vectors, settings: QuantiserSettings, generator: np.random.Generator) -> Vectors:
    if len(rows) < settings.num_needed:
        raise InvalidArgumentError(
            f"{len(rows)} vectors cannot be told apart by {settings.num_needed} centroids",
            field="num_references",
            remedy="sample more references, or lower coarse_bits",
        )
    if len(rows) > settings.num_vectors:
        rows = rows[generator.choice(len(rows), settings.num_vectors, replace=False)]
    return np.ascontiguousarray(rows, np.float32)


def train_index(rows: Vectors, settings: QuantiserSettings) -> Any:
    """A faiss index trained on rows [n, D].

    faiss warns on its own stream where a codebook has fewer than 39 vectors a centroid; how many
    are enough is settled in the settings, so its warnings are off.
    """
    faiss = _faiss()
    index = faiss.index_factory(settings.head_dim, settings.factory)
    turn = faiss.downcast_VectorTransform(index.chain.at(0))
    inner = faiss.ProductQuantizer(settings.head_dim, turn.M, 8)
    # Enough for a rotation; the rest of the rows would only take time.
    turn.max_train_points, turn.niter = min(len(rows), 1 << 16), settings.rotation_steps
    turn.pq = inner
    two_layers = faiss.downcast_index(index.index)
    halves = faiss.downcast_index(two_layers.q1.quantizer)
    for clustering in (inner.cp, halves.pq.cp, two_layers.pq.cp):
        clustering.min_points_per_centroid = 1
        clustering.max_points_per_centroid = settings.vectors_per_centroid
    inner.cp.max_points_per_centroid = 256
    two_layers.pq.cp.max_points_per_centroid = 256
    index.train(rows)
    turn.pq = None
    return index


def extract(index: Any) -> tuple[Vectors, Vectors, Vectors]:
    """Rotation [D, D], coarse centroids [2, C, D / 2] and fine ones [M, F, D / M] of an index."""
    faiss = _faiss()
    turn = faiss.downcast_VectorTransform(index.chain.at(0))
    two_layers = faiss.downcast_index(index.index)
    halves = faiss.downcast_index(two_layers.q1.quantizer).pq
    parts = two_layers.pq
    width = turn.d_in
    rotation = faiss.vector_to_array(turn.A).reshape(width, width)
    coarse = faiss.vector_to_array(halves.centroids).reshape(2, halves.ksub, halves.dsub)
    fine = faiss.vector_to_array(parts.centroids).reshape(parts.M, parts.ksub, parts.dsub)
    return rotation.copy(), coarse.copy(), fine.copy()


def _faiss() -> Any:
    """The library; its types know only its base classes."""
    import faiss

    return faiss

"""The paper's vector quantiser: 14 bytes for the 80 values of a key or value (paper §5).

faiss trains it as `OPQ20_80,Residual2x14,PQ8x10`; here it runs in torch alone, on any device. A
vector is centred and scaled by what is usual for its layer and head, turned, approximated in two
halves by coarse centroids, and what is left in parts by fine ones. The centroids belong to one
checkpoint and travel in it.
Shapes: B memories, L memory layers, K KV heads, N tokens kept, D head dim, Q quantisers for each of
key and value (1, or one a layer), S = 2Q, V vectors of one quantiser.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import embedding

from memory3.codecs.base import Codec, Shape
from memory3.codecs.codebooks import Codebooks
from memory3.errors import CheckpointMissingFileError, InvalidArgumentError
from memory3.model.transfer import send_bytes

_LARGEST = 1e18  # squares must stay below the largest float32
# Distances computed at a time: 8 MB in float32, which a processor's caches still help with.
_MAX_DISTANCES = 1 << 21


class OpqCodec(Codec):
    """One code a vector, in the order layer, key and value, KV head, token.

    Args:
        codebooks: Of the checkpoint that writes and reads.
    """

    name = "opq"
    dtype_name = "opq"

    def __init__(self, codebooks: Codebooks) -> None:
        self._books = {torch.device("cpu"): codebooks.to(torch.device("cpu"))}
        self._layout = codebooks.layout

    @classmethod
    def from_checkpoint(cls, codec_file: Path | None) -> Self:
        """See `Codec.from_checkpoint`.

        Raises:
            CheckpointMissingFileError: The checkpoint has no codebooks.
            CheckpointError: They cannot be used.
        """
        if codec_file is None:
            raise CheckpointMissingFileError(
                "the checkpoint has no codebooks, which the codec opq needs",
                field="codec",
                remedy="train them with `python -m memory3_trainer quantiser CHECKPOINT`,"
                " or choose int8",
            )
        return cls(Codebooks.load(codec_file))

    @torch.no_grad()
    def encode(self, key_values: Tensor) -> bytes:
        """See `Codec.encode`. Runs where the key-values are."""
        self.check_values(key_values, _LARGEST)
        books = self._on(key_values.device)
        self._check_shape(tuple(key_values.shape), "key_values")
        values = key_values.detach().float()[None]
        values = (values - books.mean[..., None, :]) / books.scale[..., None, None]
        turned = _grouped(values, books) @ books.rotation.flatten(0, 1).mT  # [S, V, D]
        coarse = _nearest(turned, books.coarse)
        rest = turned - _look_up(coarse, books.coarse)
        fine = _nearest(rest, books.fine)
        codes = self._layout.pack(coarse.flatten(0, 1), fine.flatten(0, 1))
        per_group = codes.view(*turned.shape[:2], -1)
        return _ungrouped(per_group, values.shape, books).cpu().numpy().tobytes()

    def decode(
        self, payload: bytes, shape: Shape, *, dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        """See `Codec.decode`."""
        return self.decode_batch([payload], shape, dtype=dtype, device=device)[0]

    @torch.no_grad()
    def decode_batch(
        self,
        payloads: Sequence[bytes],
        shape: Shape,
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> Tensor:
        """See `Codec.decode_batch`: the codes cross to the device, and are decoded there."""
        for payload in payloads:
            self.check_size(payload, shape)
        if not payloads:
            return torch.empty(0, *shape, dtype=dtype, device=device)
        books = self._on(device)
        size = self._layout.num_bytes
        raw = send_bytes(payloads, device)
        wide = (len(payloads), *shape)
        grouped = _grouped(raw.view(*wide[:-1], size), books)  # [S, V, bytes]
        coarse, fine = (
            numbers.view(*grouped.shape[:2], -1)
            for numbers in self._layout.unpack(grouped.flatten(0, 1))
        )
        turned = _look_up(coarse, books.coarse) + _look_up(fine, books.fine)
        values = _ungrouped(turned @ books.rotation.flatten(0, 1), wide, books)
        mean, scale = books.mean[..., None, :], books.scale[..., None, None]
        return torch.addcmul(mean, values, scale, out=torch.empty(wide, device=device)).to(dtype)

    def payload_bytes(self, shape: Shape) -> int:
        """See `Codec.payload_bytes`.

        Raises:
            InvalidArgumentError: The codebooks are for other heads or layers.
        """
        self._check_shape(shape, "shape")
        return math.prod(shape[:-1]) * self._layout.num_bytes

    def _on(self, device: torch.device) -> Codebooks:
        if device not in self._books:
            self._books[device] = self._books[torch.device("cpu")].to(device)
        return self._books[device]

    def _check_shape(self, shape: Sequence[int], field: str) -> None:
        L, pair, K, D = self._books[torch.device("cpu")].mean.shape
        if (*shape[:3], shape[4]) != (L, pair, K, D):
            raise InvalidArgumentError(
                f"the codebooks are for {L} layers of {K} heads of {D}, not for {tuple(shape)}",
                field=field,
                remedy="use the codebooks of the checkpoint that wrote the memory",
            )


def _grouped(values: Tensor, books: Codebooks) -> Tensor:
    """[B, L, 2, K, N, x] by quantiser: [S, V, x]."""
    ordered = values.movedim(0, 2)  # [L, 2, B, K, N, x]
    if len(books.rotation) == 1:
        ordered = ordered.transpose(0, 1)
    return ordered.reshape(2 * len(books.rotation), -1, values.shape[-1])


def _ungrouped(grouped: Tensor, wide: Sequence[int], books: Codebooks) -> Tensor:
    """The opposite of `_grouped`, for the shape [B, L, 2, K, N, ...]."""
    B, L, pair, K, N = wide[:5]
    if len(books.rotation) == 1:
        return grouped.view(pair, L, B, K, N, -1).permute(2, 1, 0, 3, 4, 5)
    return grouped.view(L, pair, B, K, N, -1).movedim(2, 0)


def _nearest(vectors: Tensor, centroids: Tensor) -> Tensor:
    """Numbers [S, V, M] of the centroids [Q, 2, M, C, d] nearest to the parts of [S, V, M * d]."""
    _, _, M, C, d = centroids.shape
    S, V, _ = vectors.shape
    parts = vectors.view(S, V, M, d).transpose(1, 2).reshape(S * M, V, d)
    table = centroids.reshape(S * M, C, d)
    # |x - c|² without |x|², which is the same for all, as one product: (x, 1) · (-2c, |c|²).
    table = torch.cat((-2 * table, table.square().sum(-1, keepdim=True)), dim=-1).mT
    parts = torch.nn.functional.pad(parts, (0, 1), value=1.0)
    rows = max(1, _MAX_DISTANCES // (S * M * C))
    found = [(parts[:, start : start + rows] @ table).argmin(-1) for start in range(0, V, rows)]
    return torch.cat(found, dim=1).view(S, M, V).transpose(1, 2)


def _look_up(numbers: Tensor, centroids: Tensor) -> Tensor:
    """Centroids of numbers [S, V, M] side by side: [S, V, M * d]."""
    S, _, M = numbers.shape
    C, d = centroids.shape[-2:]
    first = C * torch.arange(S * M, device=numbers.device).view(S, 1, M)
    return embedding(numbers + first, centroids.reshape(-1, d)).flatten(-2)

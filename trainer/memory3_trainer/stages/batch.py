"""One batch of any stage: token sequences, and the references that their chunks read.

Source: paper §7: every 64-token chunk reads its own references; each reference of a batch is
encoded once.
Shapes: B sequences, T tokens, U references of the batch, N tokens of a reference, C chunks,
R references of a chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

NONE = -1


@dataclass
class MemoryBatch:
    """Sequences and references.

    The token at place t ≥ 1 belongs to chunk (t - 1) // chunk_length, the separator at place 0 to
    chunk 0, as in the decoder (`memory3.model.prefill`).

    Attributes:
        tokens: Token ids [B, T], separator first, padded on the right.
        weights: Loss weight [B, T] of predicting tokens[b, t] from what stands before it.
        references: Token ids [U, N], padded; each reference of the batch once. U may be 0.
        lengths: Their lengths [U].
        reads: [B, C, R], the rows of `references` that a chunk reads; `NONE` fills up.
    """

    tokens: Tensor
    weights: Tensor
    references: Tensor
    lengths: Tensor
    reads: Tensor

    def to(self, device: torch.device | str) -> MemoryBatch:
        """The same on another device."""
        return MemoryBatch(*(getattr(self, item.name).to(device) for item in fields(self)))


@dataclass(frozen=True)
class Example:
    """A sequence before it is put into a batch.

    Attributes:
        tokens: Token ids without the separator.
        weights: Loss weight of each.
        chunks: For each chunk the references that it reads, as keys of the batch's references.
    """

    tokens: Sequence[int]
    weights: Sequence[float]
    chunks: Sequence[Sequence[int]] = ()


def collate(
    sequences: Sequence[Example],
    references: Sequence[Sequence[int]],
    *,
    separator_id: int,
    pad_id: int,
    chunk_length: int,
) -> MemoryBatch:
    """Put sequences side by side; references that no chunk reads are left out.

    Args:
        sequences: What is trained on.
        references: Token ids; `Example.chunks` counts in them.
        separator_id: Stands before every sequence.
        pad_id: Fills up.
        chunk_length: Tokens of a chunk.
    """
    used = sorted({key for item in sequences for chunk in item.chunks for key in chunk})
    row_of = {key: row for row, key in enumerate(used)}
    longest = max(len(item.tokens) for item in sequences)
    num_chunks = max(1, -(-longest // chunk_length))
    width = max((len(chunk) for item in sequences for chunk in item.chunks), default=0)
    reads = torch.full((len(sequences), num_chunks, width), NONE)
    weights = torch.zeros(len(sequences), longest + 1)
    for number, item in enumerate(sequences):
        weights[number, 1 : 1 + len(item.weights)] = torch.tensor(item.weights)
        for place, chunk in enumerate(item.chunks):
            rows = torch.tensor([row_of[key] for key in chunk], dtype=torch.int64)
            reads[number, place, : len(chunk)] = rows
    return MemoryBatch(
        tokens=pad([[separator_id, *item.tokens] for item in sequences], pad_id),
        weights=weights,
        references=pad([references[key] for key in used], pad_id),
        lengths=torch.tensor([len(references[key]) for key in used], dtype=torch.int64),
        reads=reads,
    )


def pad(rows: Sequence[Sequence[int]], pad_id: int) -> Tensor:
    """Token ids side by side, [len(rows), longest]; shorter rows are filled up on the right."""
    longest = max((len(row) for row in rows), default=0)
    padded = torch.full((len(rows), longest), pad_id)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = torch.as_tensor(row, dtype=torch.int64)
    return padded

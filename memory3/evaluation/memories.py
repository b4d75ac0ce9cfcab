"""Memories of references, written when they are first read and kept as the codec stores them.

What is attached has been through the codec, as it is after the wire. It must not know why a
reference is read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from memory3.codecs.base import Codec
from memory3.evaluation.subject import Subject
from memory3.memory.reader import unstack
from memory3.memory.tensors import MemoryTensors
from memory3.memory.writer import MemoryWriter

_BATCH_TOKENS = 4096
_MAX_BYTES = 1 << 29

Tokens = Callable[[int], Sequence[int]]
"""The tokens of a reference by its number."""


class MemorySource(Protocol):
    """Gives memories by the numbers of their references."""

    def fetch(self, numbers: Iterable[int]) -> dict[int, MemoryTensors]:
        """The memories of references, each once."""
        ...


@dataclass(frozen=True, slots=True)
class _Stored:
    payload: bytes
    positions: Tensor
    num_kept: int


class MemoryStore:
    """Writes memories in batches and keeps those read last.

    Args:
        subject: Writes, encodes and decodes.
        tokens_of: The tokens of a reference.
        max_bytes: Bytes to keep; more where one call asks for more.
    """

    def __init__(self, subject: Subject, tokens_of: Tokens, *, max_bytes: int = _MAX_BYTES) -> None:
        self._subject, self._tokens_of, self._max_bytes = subject, tokens_of, max_bytes
        self._writer = MemoryWriter(subject.model, subject.config)
        self._kept: OrderedDict[int, _Stored] = OrderedDict()
        self._num_bytes = 0
        self.num_written = 0

    def fetch(self, numbers: Iterable[int]) -> dict[int, MemoryTensors]:
        """See `MemorySource.fetch`."""
        wanted = list(dict.fromkeys(numbers))
        missing = {n: self._tokens_of(n) for n in wanted if n not in self._kept}
        for batch in batches(missing):
            for number, memory in zip(
                batch, self._writer.write([missing[n] for n in batch]), strict=True
            ):
                self._keep(number, memory)
        for number in wanted:
            self._kept.move_to_end(number)
        found = {number: self._decode(self._kept[number]) for number in wanted}
        while self._num_bytes > self._max_bytes and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._num_bytes -= len(dropped.payload)
        return found

    def _keep(self, number: int, memory: MemoryTensors) -> None:
        payload = encode_memory(memory, self._subject.codec)
        self._kept[number] = _Stored(payload, memory.positions, memory.num_kept)
        self._num_bytes += len(payload)
        self.num_written += 1

    def _decode(self, stored: _Stored) -> MemoryTensors:
        return decode_memory(stored.payload, stored.positions, stored.num_kept, self._subject)


def encode_memory(memory: MemoryTensors, codec: Codec) -> bytes:
    """The payload of a memory."""
    return codec.encode(torch.stack((memory.keys, memory.values), dim=1))


def decode_memory(
    payload: bytes, positions: Tensor, num_kept: int, subject: Subject
) -> MemoryTensors:
    """A memory from its payload, in the model's number format and on its device."""
    model = subject.model
    stacked = subject.codec.decode(
        payload, subject.config.memory_shape, dtype=model.dtype, device=model.device
    )
    return unstack(stacked, positions, num_kept)


def batches(references: dict[int, Sequence[int]]) -> Iterator[list[int]]:
    """The numbers of references in batches of similar length, 4,096 tokens with padding."""
    batch: list[int] = []
    for number in sorted(references, key=lambda n: (len(references[n]), n)):
        if batch and len(references[number]) * (len(batch) + 1) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch

"""Reading an envelope back into tensors, with every check that keeps memories from mixing.

Source: paper §5 (decompression after the transfer). It must not guess: an envelope of another
checkpoint, shape or codec is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from memory3.codecs.base import Codec
from memory3.codecs.loading import load_codec
from memory3.errors import CheckpointMismatchError
from memory3.memory.envelope import Envelope, unpack
from memory3.memory.tensors import MemoryTensors
from memory3.model.config import ModelConfig
from memory3.model.transfer import SideStream

# Values decoded at a time, of which a codec may need several in float32. On a processor as many as
# its caches hold: 80 memories of memory3-2b in one go took 2.5 to 4 times as long (ADR 0036).
_MAX_VALUES = 1 << 24
_MAX_VALUES_CPU = 1 << 20


class MemoryReader:
    """Reads the envelopes of one checkpoint.

    Args:
        config: Of the checkpoint.
        checkpoint_digest: Its digest.
        codec_file: Its codebooks; None where it has none.
        dtype: Number format of the memories read.
        device: Where they are put.
    """

    def __init__(
        self,
        config: ModelConfig,
        checkpoint_digest: str,
        *,
        codec_file: Path | None = None,
        dtype: torch.dtype,
        device: str | torch.device = "cpu",
    ) -> None:
        self._shape = config.memory_shape
        self._digest = checkpoint_digest
        self._codec_file = codec_file
        self._dtype, self._device = dtype, torch.device(device)
        self._max_values = _MAX_VALUES_CPU if self._device.type == "cpu" else _MAX_VALUES
        self._stream = SideStream(self._device)
        self._codecs: dict[str, Codec] = {}

    def read(self, envelope: bytes) -> MemoryTensors:
        """Decode one memory.

        Raises:
            CheckpointMismatchError: Digest or shape are another checkpoint's.
            CorruptDataError: The bytes are damaged.
            PluginNotFoundError: The codec is not installed.
            CheckpointError: The checkpoint lacks what the codec needs.
        """
        return self.read_batch([envelope])[0]

    def read_batch(self, envelopes: Sequence[bytes]) -> list[MemoryTensors]:
        """Decode memories together, in their order; as `read`, of which any may fail the whole.

        On a GPU this runs beside what the calling thread's stream computes, and has ended when it
        returns.
        """
        found = [self._open(envelope) for envelope in envelopes]
        with self._stream.use() as hand_over:
            memories = self._decode(found)
            for memory in memories:
                hand_over(memory.keys, memory.values)
        return memories

    def _decode(self, found: Sequence[Envelope]) -> list[MemoryTensors]:
        by_codec: dict[str, list[int]] = {}
        for number, envelope in enumerate(found):
            by_codec.setdefault(envelope.codec, []).append(number)
        memories: dict[int, MemoryTensors] = {}
        most = max(1, self._max_values // math.prod(self._shape))
        for name, numbers in by_codec.items():
            codec = self._codec(name)
            for start in range(0, len(numbers), most):
                part = numbers[start : start + most]
                decoded = codec.decode_batch(
                    [found[number].payload for number in part],
                    self._shape,
                    dtype=self._dtype,
                    device=self._device,
                )
                for number, stacked in zip(part, decoded, strict=True):
                    positions = torch.from_numpy(found[number].positions.astype("int16"))
                    memories[number] = unstack(stacked, positions, found[number].num_kept)
        return [memories[number] for number in range(len(found))]

    def _open(self, envelope: bytes) -> Envelope:
        found = unpack(envelope, checkpoint_digest=self._digest)
        if found.shape != self._shape:
            raise CheckpointMismatchError(
                f"the memory has shape {found.shape}, the checkpoint makes {self._shape}",
                field="envelope.shape",
                remedy="write the memory again with the checkpoint that reads it",
                metadata={"expected": str(self._shape), "actual": str(found.shape)},
            )
        return found

    def _codec(self, name: str) -> Codec:
        if name not in self._codecs:
            self._codecs[name] = load_codec(name, self._codec_file)
        return self._codecs[name]


def unstack(stacked: Tensor, positions: Tensor, num_kept: int) -> MemoryTensors:
    """A memory from what its codec gave; its tensors are its own, so dropping it frees them.

    Args:
        stacked: Key-values [L, 2, K, N, D].
        positions: Kept tokens [L, K, N].
        num_kept: Valid tokens.
    """
    keys, values = (
        stacked[:, kind].clone(memory_format=torch.contiguous_format) for kind in range(2)
    )
    # What a short reference leaves empty is zero, which a quantiser only comes close to.
    keys[:, :, num_kept:] = 0
    values[:, :, num_kept:] = 0
    return MemoryTensors(keys, values, positions, num_kept)

"""Reading an envelope back into tensors, with every check that keeps memories from mixing.

Source: paper §5 (decompression after the transfer). It must not guess: an envelope of another
checkpoint, shape or codec is refused.
"""

from __future__ import annotations

import torch

from memory3 import plugins
from memory3.codecs.base import Codec
from memory3.errors import CheckpointMismatchError
from memory3.memory.envelope import unpack
from memory3.memory.tensors import MemoryTensors
from memory3.model.config import ModelConfig


class MemoryReader:
    """Reads the envelopes of one checkpoint."""

    def __init__(
        self,
        config: ModelConfig,
        checkpoint_digest: str,
        *,
        dtype: torch.dtype,
        device: str | torch.device = "cpu",
    ) -> None:
        self._shape = config.memory_shape
        self._digest = checkpoint_digest
        self._dtype, self._device = dtype, torch.device(device)
        self._codecs: dict[str, Codec] = {}

    def read(self, envelope: bytes) -> MemoryTensors:
        """Decode one memory.

        Raises:
            CheckpointMismatchError: Digest or shape are another checkpoint's.
            CorruptDataError: The bytes are damaged.
            PluginNotFoundError: The codec is not installed.
        """
        found = unpack(envelope, checkpoint_digest=self._digest)
        if found.shape != self._shape:
            raise CheckpointMismatchError(
                f"the memory has shape {found.shape}, the checkpoint makes {self._shape}",
                field="envelope.shape",
                remedy="write the memory again with the checkpoint that reads it",
                metadata={"expected": str(self._shape), "actual": str(found.shape)},
            )
        stacked = self._codec(found.codec).decode(
            found.payload, found.shape, dtype=self._dtype, device=self._device
        )
        positions = torch.from_numpy(found.positions.astype("int16"))
        keys, values = stacked[:, 0].contiguous(), stacked[:, 1].contiguous()
        return MemoryTensors(keys, values, positions, found.num_kept)

    def _codec(self, name: str) -> Codec:
        if name not in self._codecs:
            self._codecs[name] = plugins.load("codecs", name)()
        return self._codecs[name]

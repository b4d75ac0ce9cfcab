"""Bringing memories from the host to the model's device, beside what is computed there.

On a GPU a copy runs alone only from pinned memory, and beside the model's kernels only on another
stream than theirs. On a processor there is nothing to bring, and all of this does nothing. It must
not know what is brought. **The part for GPUs has not run on one yet.**
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def send(host: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device.

    On a GPU nobody waits for the copy: what is launched on the current stream comes after it, and
    the pinned copy of the host's tensor is kept by torch until it is through.
    """
    if device.type != "cuda":
        return host.to(device)
    return host.pin_memory().to(device, non_blocking=True)


def send_bytes(parts: Sequence[bytes], device: torch.device) -> Tensor:
    """Byte strings of one length on a device, by one copy of all; as `send`.

    Args:
        parts: At least one.
        device: Where they go.

    Returns:
        uint8 [len(parts), their length].
    """
    shape = (len(parts), len(parts[0]))
    staged = torch.empty(shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
    for row, part in zip(staged.numpy(), parts, strict=True):
        row[:] = np.frombuffer(part, np.uint8)
    return staged.to(device, non_blocking=True)


HandOver = Callable[..., None]
"""Says that tensors made on a side stream will be used on the stream outside of it."""


class SideStream:
    """A stream of a device for what is brought to it; on a processor, nothing.

    Args:
        device: Where it is.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @contextmanager
    def use(self) -> Iterator[HandOver]:
        """Launch what is in the block beside the stream outside, and have it done at its end.

        The calling thread waits, not the device: whoever is given a result need not know of
        streams. Nothing in the block may need what the stream outside still computes.

        Yields:
            What the results of the block must be given to before it ends. Otherwise torch would
            give their memory to the next block as soon as they are dropped, while the stream
            outside may still read it.
        """
        if self._stream is None:
            yield lambda *tensors: None
            return
        outside = torch.cuda.current_stream(self._stream.device)

        def hand_over(*tensors: Tensor) -> None:
            for tensor in tensors:
                tensor.record_stream(outside)

        with torch.cuda.stream(self._stream):
            try:
                yield hand_over
            finally:
                done = torch.cuda.Event()  # type: ignore[no-untyped-call]
                done.record(self._stream)
                done.synchronize()

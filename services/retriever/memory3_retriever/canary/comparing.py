"""How far two memories of one reference are apart, without torch and without a checkpoint.

A checksum proves that bytes are those that were written, not that they were written for this
reference. Two writings of one reference are the same bit for bit where nothing else differs; in a
batch of another size, or on another device, the last bits of some values move, and between tokens
that are nearly as important as each other another may be kept. Another text moves everything.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from memory3.errors import CorruptDataError
from memory3.memory.envelope import Envelope, unpack

# Rounding, in bfloat16 on another device at worst, stays below half of this; another text's memory
# is at 0.5 or more, whatever the codec.
TOLERANCE = 0.25

# Where fewer of the kept tokens are the same, they are not those of one text.
_MIN_COMMON = 0.5

_Values = npt.NDArray[Any]


def difference(served: bytes, fresh: bytes) -> float:
    """How far a memory is from another one of the same reference.

    Args:
        served: An envelope.
        fresh: The envelope that the encoder writes now.

    Returns:
        0 where they are the same bytes, 1 where nothing agrees. Between these, over the tokens
        that both keep: the norm of the difference by the norm of the values (``raw`` and ``int8``),
        or the share of bytes that differ (codecs of codes).

    Raises:
        CorruptDataError: One of them is no envelope.
    """
    if served == fresh:
        return 0.0
    one, other = unpack(served), unpack(fresh)
    for field in ("checkpoint_digest", "codec", "dtype", "shape", "num_kept"):
        if getattr(one, field) != getattr(other, field):
            return 1.0
    layers, _, heads, _, _ = one.shape
    values, others = _values(one), _values(other)
    apart = total = 0.0
    num_common = 0
    for layer in range(layers):
        for head in range(heads):
            _, mine, theirs = np.intersect1d(
                one.positions[layer, head, : one.num_kept],
                other.positions[layer, head, : one.num_kept],
                return_indices=True,
            )
            num_common += len(mine)
            step = _distance(values[layer, :, head][:, mine], others[layer, :, head][:, theirs])
            apart, total = apart + step[0], total + step[1]
    if num_common < _MIN_COMMON * layers * heads * one.num_kept:
        return 1.0
    share = apart / total if total else 1.0
    return min(1.0, share if _is_coded(one) else math.sqrt(share))


def _distance(values: _Values, others: _Values) -> tuple[float, float]:
    """The difference and what it is measured by: squares of values, numbers of bytes."""
    if values.dtype == np.uint8:
        return float(np.count_nonzero(values != others)), float(values.size)
    return float(np.square(values - others).sum()), float(np.square(others).sum())


def _is_coded(envelope: Envelope) -> bool:
    return envelope.codec not in ("raw", "int8")


def _values(envelope: Envelope) -> _Values:
    """What is compared, [layers, 2, KV heads, tokens, x]: float32 values, or bytes of codes."""
    payload, shape = envelope.payload, envelope.shape
    if envelope.codec == "raw":
        bits = np.frombuffer(payload, "<u2").astype(np.uint32) << 16
        return bits.view(np.float32).reshape(shape)
    if envelope.codec == "int8":
        split = 2 * math.prod(shape[:-1])
        scales = np.frombuffer(payload[:split], "<f2").astype(np.float32)
        codes = np.frombuffer(payload[split:], np.int8).astype(np.float32)
        return codes.reshape(shape) * scales.reshape(*shape[:-1], 1)
    num_vectors = math.prod(shape[:-1])
    if len(payload) % num_vectors:
        raise CorruptDataError(
            f"{len(payload)} bytes are not so many for each of {num_vectors} vectors",
            field="envelope.payload",
        )
    return np.frombuffer(payload, np.uint8).reshape(*shape[:-1], -1)

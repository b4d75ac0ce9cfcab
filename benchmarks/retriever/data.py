"""Made-up knowledge of a given size: clustered vectors, memories of random bytes, and queries.

Vectors are drawn around centres of different spreads, because noise without any structure is no
test of recall: nothing in it is near anything.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from memory3.memory.envelope import Envelope, pack

Vectors = npt.NDArray[np.float32]

DIMENSIONS = 384
NUM_CENTRES = 1000
# With the container's 1,156 bytes a memory is 40 KB: 4 layers × 2 × 4 KV heads × 10 tokens × 64
# values of two bytes.
SHAPE = (4, 2, 4, 10, 64)
_BLOCK = 4096


def vectors_of(numbers: npt.NDArray[np.int64]) -> Vectors:
    """The unit vectors of references by number, the same whatever the others."""
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((NUM_CENTRES, DIMENSIONS), dtype=np.float32)
    spreads = rng.uniform(0.3, 1.0, NUM_CENTRES).astype(np.float32)
    rows = np.empty((len(numbers), DIMENSIONS), dtype=np.float32)
    for row, number in enumerate(numbers.tolist()):
        own = np.random.default_rng((2, number))
        centre = int(own.integers(NUM_CENTRES))
        rows[row] = centres[centre] + spreads[centre] * own.standard_normal(DIMENSIONS)
    unit: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def blocks(count: int) -> Iterator[tuple[range, Vectors]]:
    """The numbers 0 to count - 1 and their vectors."""
    for start in range(0, count, _BLOCK):
        numbers = range(start, min(count, start + _BLOCK))
        yield numbers, vectors_of(np.arange(numbers.start, numbers.stop))


def is_stored(number: int, share: float) -> bool:
    """Whether the memory of a reference is among the share that is stored: whole clusters are."""
    centre = int(np.random.default_rng((2, number)).integers(NUM_CENTRES))
    return centre < share * NUM_CENTRES


def queries(count: int, seed: int = 0, share: float = 1.0) -> Vectors:
    """Unit vectors that no reference has, near the centres whose memories are stored."""
    first = (1 << 40) + seed * (1 << 20)
    fitting = (n for n in itertools.count(first) if share >= 1 or is_stored(n, share))
    return vectors_of(np.array(list(itertools.islice(fitting, count)), dtype=np.int64))


def text_of(number: int) -> str:
    """A reference's text, as long as a short paragraph."""
    return f"Reference number {number}. " + "It says what a short paragraph would say. " * 8


def envelope_of(number: int, digest: str) -> bytes:
    """A sound memory of about 40 KB whose bytes cannot be compressed."""
    layers, _, heads, tokens, width = SHAPE
    size = 2 * layers * 2 * heads * tokens * width
    payload = np.random.default_rng((3, number)).bytes(size)
    positions = np.tile(np.arange(tokens, dtype=np.uint8), (layers, heads, 1))
    return pack(Envelope(digest, "raw", "bfloat16", SHAPE, tokens, positions, payload))

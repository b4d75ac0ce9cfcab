"""How large a quantiser is: the paper's for heads of 80, and one rule for all others (paper §5).

The paper's is `OPQ20_80,Residual2x14,PQ8x10`: 28 bits of coarse centroids, then 8 parts of 10
values with 10 bits each. Heads of 80 and more keep that, with parts as wide as divides the head and
is at most 10. The small models that have smaller heads lose accuracy to so few bits, and 2^14
centroids would weigh as much as several of their layers: they take 8 coarse bits and 8 bits for
every 2 values (measured in docs/experiments.md). Bytes a vector:

    head dim    16   32   48   64   80   96  128
    bytes       10   18   26   34   14   19   24
    raw         32   64   96  128  160  192  256
"""

from __future__ import annotations

from dataclasses import dataclass

from memory3.codecs.bits import CodeLayout
from memory3.errors import InvalidArgumentError

_TURNED_PART = 4
# Of heads as wide as the paper's, and of smaller ones: coarse bits, values of a part, fine bits.
_WIDE_HEAD, _WIDE, _SMALL = 80, (14, 10, 10), (8, 2, 8)


@dataclass(frozen=True)
class QuantiserSettings:
    """Shape and training of a quantiser.

    Attributes:
        head_dim: Values of a vector; even.
        coarse_bits: Of each half's centroids; None for the rule.
        num_parts: Parts of the residual; None for the rule.
        fine_bits: Of each part's centroids; None for the rule.
        per_layer: One quantiser for each layer rather than one for all.
        vectors_per_centroid: Vectors to train on, for each centroid of the largest codebook.
        rotation_steps: Rounds in which the rotation is improved.
        seed: Which vectors are drawn.
    """

    head_dim: int
    coarse_bits: int | None = None
    num_parts: int | None = None
    fine_bits: int | None = None
    per_layer: bool = False
    vectors_per_centroid: int = 64
    rotation_steps: int = 25
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            InvalidArgumentError: A number is out of range.
        """
        _check("head_dim", self.head_dim, 2, 1 << 12)
        if self.head_dim % 2:
            raise _wrong("head_dim", "is odd", "vectors are halved")
        if self.coarse_bits is not None:
            _check("coarse_bits", self.coarse_bits, 1, 15)
        if self.num_parts is not None and not _divides(self.num_parts, self.head_dim):
            raise _wrong("num_parts", f"is {self.num_parts}", f"give a divisor of {self.head_dim}")
        if self.fine_bits is not None:
            _check("fine_bits", self.fine_bits, 1, 12)
        _check("vectors_per_centroid", self.vectors_per_centroid, 1, 1024)
        _check("rotation_steps", self.rotation_steps, 1, 1000)

    @property
    def layout(self) -> CodeLayout:
        """How a code is packed."""
        coarse_bits, widest, fine_bits = _WIDE if self.head_dim >= _WIDE_HEAD else _SMALL
        return CodeLayout(
            self.coarse_bits or coarse_bits,
            self.num_parts or self.head_dim // _part(self.head_dim, widest),
            self.fine_bits or fine_bits,
        )

    @property
    def factory(self) -> str:
        """The name of the quantiser for faiss."""
        layout, width = self.layout, self.head_dim
        turned = width // _part(width, _TURNED_PART)
        return (
            f"OPQ{turned}_{width},Residual2x{layout.coarse_bits},"
            f"PQ{layout.num_parts}x{layout.fine_bits}"
        )

    @property
    def num_vectors(self) -> int:
        """Vectors that one quantiser is trained on, if there are as many."""
        return self.vectors_per_centroid * self.num_needed

    @property
    def num_needed(self) -> int:
        """Vectors below which a quantiser cannot be trained."""
        return 1 << max(self.layout.coarse_bits, self.layout.fine_bits)


def _part(width: int, widest: int) -> int:
    return max(part for part in range(1, widest + 1) if width % part == 0)


def _divides(part: int, whole: int) -> bool:
    return part > 0 and whole % part == 0


def _check(field: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise _wrong(field, f"is {value}", f"give {least} to {most}")


def _wrong(field: str, problem: str, remedy: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{field} {problem}", field=field, remedy=remedy)

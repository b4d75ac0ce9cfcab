"""Names and shapes of the tensors of `codec.safetensors`, without torch: every service checks them.

Source: paper §5. What the tensors mean is in `codebooks`.
Shapes: L memory layers, 2 for key and value, K KV heads, D head dim, Q quantisers for each of key
and value (1, or one a layer), M parts, C and F centroids.
"""

from __future__ import annotations

from collections.abc import Mapping

from memory3.errors import CheckpointShapeError

FILE = "codec.safetensors"
AGAIN = "copy the checkpoint again, or train its quantiser again"
Shapes = Mapping[str, tuple[int, ...]]

_DIMENSIONS = {"mean": 4, "scale": 3, "rotation": 4, "coarse": 5, "fine": 5}
_MAX_CENTROIDS = 1 << 16


def check_codebook_shapes(
    shapes: Shapes, memory_shape: tuple[int, int, int, int, int] | None = None
) -> None:
    """Refuse tensors that do not belong together.

    Args:
        shapes: Shape of every tensor by its name.
        memory_shape: Of a memory of the checkpoint; None compares the tensors among themselves.

    Raises:
        CheckpointShapeError: A tensor is missing, surplus or of another shape.
    """
    for name in sorted(_DIMENSIONS.keys() ^ shapes.keys()):
        known = name in _DIMENSIONS
        _require(False, name, "is missing" if known else "does not belong into codebooks")
    for name, number in _DIMENSIONS.items():
        _require(len(shapes[name]) == number, name, f"has not {number} dimensions")
    L, _, K, D = shapes["mean"]
    if memory_shape is not None:
        layers, _, heads, _, width = memory_shape
        _require(
            (layers, heads, width) == (L, K, D),
            "mean",
            f"is for {L} layers of {K} heads of {D}, the model has {layers} of {heads} of {width}",
        )
    Q, M = shapes["rotation"][0], shapes["fine"][2]
    C, F = shapes["coarse"][3], shapes["fine"][3]
    _require(Q in (1, L), "rotation", f"is for {Q} of {L} layers")
    _require(D % 2 == 0 and M > 0 and D % M == 0, "fine", f"has {M} parts of a head of {D}")
    for name, count in (("coarse", C), ("fine", F)):
        is_power = count & (count - 1) == 0
        _require(2 <= count <= _MAX_CENTROIDS and is_power, name, f"has {count} centroids")
    expected: Shapes = {
        "mean": (L, 2, K, D), "scale": (L, 2, K), "rotation": (Q, 2, D, D),
        "coarse": (Q, 2, 2, C, D // 2), "fine": (Q, 2, M, F, D // M),
    }  # fmt: skip
    for name, shape in expected.items():
        _require(shapes[name] == shape, name, f"has shape {shapes[name]}, not {shape}")


def _require(condition: bool, name: str, problem: str) -> None:
    if not condition:
        raise CheckpointShapeError(f"{name} {problem}", field=f"{FILE}:{name}", remedy=AGAIN)

"""The keys of a whole database as one array: a set of a million keys takes a second and 100 MB."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

KEY_BYTES = 16
# numpy takes zeros off the end of such strings, but on both sides of a comparison.
Keys = npt.NDArray[np.bytes_]


def keys_of(cursor: Any) -> Keys | None:
    """All keys of a database in its order, [num_keys]; None if one is not of 16 bytes.

    Args:
        cursor: Anywhere in the database; it is moved.
    """
    if not cursor.first():
        return np.empty(0, dtype=f"S{KEY_BYTES}")
    keys = list(cursor.iternext(keys=True, values=False))
    return packed(keys)


def packed(keys: list[bytes]) -> Keys | None:
    """Keys as one array; None if one is not of 16 bytes."""
    joined = b"".join(keys)
    if len(joined) != KEY_BYTES * len(keys) or any(len(key) != KEY_BYTES for key in keys):
        return None
    return np.frombuffer(joined, dtype=f"S{KEY_BYTES}")


def are_within(keys: Keys, ordered: Keys) -> bool:
    """Whether each of the keys is among others that are in order."""
    if not len(keys):
        return True
    if not len(ordered):
        return False
    places = np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)
    return bool((ordered[places] == keys).all())

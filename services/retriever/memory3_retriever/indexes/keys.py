"""The keys of an immutable base, each at its label, in 40 bytes a key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import SupportsInt

import numpy as np
import numpy.typing as npt

KEY_BYTES = 16
# What stands in place of the key of a vector that was removed before the base was made.
TOMBSTONE = bytes(KEY_BYTES)

Labels = npt.NDArray[np.intp]


class KeyTable:
    """Keys by label and labels by key; a set and a dict of a million keys would take 250 MB.

    Args:
        packed: The keys of the labels 0, 1, 2, ..., 16 bytes each.
    """

    def __init__(self, packed: bytes) -> None:
        self.packed = packed
        # numpy takes off zeros at the end of such strings, but on both sides of a comparison.
        names = np.frombuffer(packed, dtype=f"S{KEY_BYTES}")
        self._order = np.argsort(names, kind="stable").astype(np.int64)
        self._sorted = names[self._order]
        self.num_live = int(np.count_nonzero(names != b""))

    @classmethod
    def of(cls, keys: Iterable[bytes]) -> KeyTable:
        """The table of keys in the order of their labels.

        Raises:
            ValueError: A key is not of 16 bytes.
        """
        each = list(keys)
        if any(len(key) != KEY_BYTES for key in each):
            raise ValueError(f"a key is not of {KEY_BYTES} bytes")
        return cls(b"".join(each))

    def __len__(self) -> int:
        return len(self.packed) // KEY_BYTES

    def __getitem__(self, label: SupportsInt) -> bytes:
        start = KEY_BYTES * int(label)
        return self.packed[start : start + KEY_BYTES]

    def __iter__(self) -> Iterator[bytes]:
        """All keys, tombstones among them."""
        return (self[label] for label in range(len(self)))

    def __contains__(self, key: bytes) -> bool:
        return self.label(key) is not None

    def live(self) -> set[bytes]:
        """All keys but tombstones."""
        return {*self} - {TOMBSTONE}

    def live_labels(self) -> Labels:
        """The labels of all keys but tombstones, in order."""
        names = np.frombuffer(self.packed, dtype=f"S{KEY_BYTES}")
        return np.flatnonzero(names != b"")

    def is_list(self, ordered: npt.NDArray[np.bytes_], chosen: npt.NDArray[np.bool_]) -> bool:
        """Whether the keys of the chosen labels, in order, are exactly these."""
        return np.array_equal(self._sorted[chosen[self._order]], ordered)

    def label(self, key: bytes) -> int | None:
        """The label of a key, None if it is not there."""
        found = int(self.labels([key])[0])
        return None if found < 0 else found

    def labels(self, keys: Sequence[bytes]) -> Labels:
        """The labels of keys; -1 for those that are not there."""
        wanted = np.array(keys, dtype=f"S{KEY_BYTES}") if keys else np.empty(0, dtype="S16")
        if not len(self):
            return np.full(len(wanted), -1, dtype=np.intp)
        places = np.minimum(np.searchsorted(self._sorted, wanted), len(self) - 1)
        fits = np.array([len(key) == KEY_BYTES for key in keys], dtype=np.bool_)
        found = (self._sorted[places] == wanted) & (wanted != b"") & fits
        return np.where(found, self._order[places], -1).astype(np.intp)

    @property
    def nbytes(self) -> int:
        """What the table takes of main memory."""
        return len(self.packed) + self._order.nbytes + self._sorted.nbytes

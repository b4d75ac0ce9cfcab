"""Finds references as the services do: an embedder and an index, both plugins.

The index is filled in pieces, each settled before the next, so that the graph which results does
not depend on timing; an index that keeps files takes up after a kill what it had saved.
It must not know what the references are for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from memory3 import plugins
from memory3.embedders.base import Embedder
from memory3.errors import InvalidArgumentError

# References embedded and added at a time: 100 MB of vectors at 384 dimensions.
_PIECE = 1 << 16
_KEY_LENGTH = 16


class Finder:
    """References in an index.

    Args:
        embedder: Embeds references and queries.
        index: Name of the index with argument, such as ``hnsw:ef=128``.
        folder: Where the index keeps files; None keeps none.
    """

    def __init__(self, embedder: Embedder, index: str, folder: Path | None = None) -> None:
        bare, argument = plugins.split_name(index)
        self._embedder = embedder
        make: Callable[..., Any] = plugins.load("indexes", bare)
        self._index = make(embedder.dimensions, argument=argument, folder=folder)
        self._index.load()

    def fill(
        self,
        text_of: Callable[[int], str],
        count: int,
        progress: Callable[[int], None] = lambda added: None,
    ) -> None:
        """Add references 0 to count - 1.

        Args:
            text_of: The text that reference i is found by.
            count: How many there are.
            progress: Told how many are in.
        """
        if not count:
            raise InvalidArgumentError("there is no reference to find", field="references")
        for start in range(0, count, _PIECE):
            numbers = range(start, min(count, start + _PIECE))
            new = [number for number in numbers if _key(number) not in self._index]
            # Embedded in small groups, so that progress shows.
            if new:
                self._add(new, text_of, progress)
            progress(numbers.stop)

    def _add(
        self, numbers: Sequence[int], text_of: Callable[[int], str], progress: Callable[[int], None]
    ) -> None:
        import numpy as np

        groups = []
        for start in range(0, len(numbers), 1024):
            group = numbers[start : start + 1024]
            groups.append(self._embedder.embed([text_of(number) for number in group], "reference"))
            progress(group[-1] + 1)
        self._index.add([_key(number) for number in numbers], np.concatenate(groups))
        self._index.settle()
        self._index.save()

    def find(self, queries: Sequence[str], k: int) -> list[list[int]]:
        """The numbers of the k nearest references of each query, best first."""
        hits = self._index.search(self._embedder.embed(queries, "query"), k)
        return [[int.from_bytes(hit.key, "big") - 1 for hit in found] for found in hits]

    def close(self) -> None:
        """Break off what goes on in the background."""
        self._index.close()


def _key(number: int) -> bytes:
    # A key of zeros stands for a removed vector in some indexes.
    return (number + 1).to_bytes(_KEY_LENGTH, "big")

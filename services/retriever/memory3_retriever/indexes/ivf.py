"""The IVF index: for banks larger than memory; quantised lists on disk as the base.

Source: Jégou, Douze and Schmid, "Product Quantization for Nearest Neighbor Search" (2011), for the
inverted file and the ranking of its candidates; the codes here are scalar, not product quantised.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, ClassVar, cast

import numpy as np

from memory3_retriever.files import TEMPORARY_PREFIX
from memory3_retriever.indexes.base import Vectors, VectorsOf, unit_rows
from memory3_retriever.indexes.inverted import (
    INDEX,
    KEYS,
    LISTS,
    METRIC,
    Block,
    InvertedLists,
    ListParameters,
    build_lists,
    in_blocks,
    open_lists,
    sample_size,
)
from memory3_retriever.indexes.keys import KeyTable
from memory3_retriever.indexes.layered import Base, LayeredIndex, Mask, Stop
from memory3_retriever.indexes.saved import load_base, save_base

_FORMAT = "memory3-ivf-1"
_PREFIX = "lists-"
_SEED = 1
# How far ``probes`` may be raised above what the index's name says.
_MAX_PROBES_FACTOR = 16


class IvfIndex(LayeredIndex):
    """Finds nearly all of the nearest vectors with little memory: lists of 8-bit vectors on disk.

    Candidates are ranked by their exact vectors, which are read from the bank. An index that nobody
    gave ``vectors_of`` keeps the vectors in memory itself, and is as large as an exact one.

    Args:
        dimensions: The length of a vector.
        argument: Parameters, such as ``probes=64``; see ``ListParameters``.
        folder: Where lists are kept; None puts them into the system's temporary folder.

    Raises:
        InvalidArgumentError: The argument is not of that form.
    """

    name: ClassVar[str] = "ivf"
    # The next lists are made of all vectors anew.
    changed_share: ClassVar[float] = 0.02
    resting_share: ClassVar[float] = 0.01

    def __init__(
        self, dimensions: int, *, argument: str | None = None, folder: Path | None = None
    ) -> None:
        # ``probes`` may be raised later; the other parameters stay what the name says.
        self.parameters = ListParameters.parse(argument)
        self._max_probes = _MAX_PROBES_FACTOR * self.parameters.probes
        self._own: dict[bytes, Vectors] = {}
        empty = InvertedLists(None, KeyTable(b""), None, self.parameters, self._exact)
        super().__init__(
            dimensions,
            argument=argument,
            folder=folder,
            delta=self.parameters.delta,
            empty=empty,
        )

    def search_harder(self) -> str:
        """Double ``probes``, up to sixteen times what the name says."""
        with self._lock:
            base, before = cast(InvertedLists, self._state.base), self.parameters.probes
            if before >= min(self._max_probes, base.num_lists):
                return ""
            probes = min(2 * before, self._max_probes)
            self.parameters = dataclasses.replace(self.parameters, probes=probes)
            base.parameters = self.parameters
        return f"probes raised from {before} to {probes}"

    def _add(self, keys: Sequence[bytes], vectors: Vectors) -> None:
        if self.vectors_of is None:
            self._own.update(zip(keys, vectors, strict=True))
        super()._add(keys, vectors)

    def _remove(self, keys: set[bytes]) -> None:
        super()._remove(keys)
        for key in keys:
            self._own.pop(key, None)

    def _exact(self, keys: Sequence[bytes]) -> Mapping[bytes, Vectors]:
        if self.vectors_of is not None:
            return self.vectors_of(keys)
        return {key: vector for key in keys if (vector := self._own.get(key)) is not None}

    def _load_base(self, folder: Path) -> Base | None:
        if self.vectors_of is None:
            return None

        def read(path: Path, manifest: Mapping[str, Any]) -> InvertedLists:
            return open_lists(path, self.dimensions, self.parameters, self._exact)

        return load_base(folder, _PREFIX, self._form(), read)

    def _save_base(self, folder: Path, base: Base) -> None:
        lists = cast(InvertedLists, base)
        built = lists.folder
        assert built is not None

        def write(work: Path) -> list[str]:
            for name in (INDEX, LISTS, KEYS):
                # The files are mapped and never change, so a second name is as good as a copy.
                os.link(built / name, work / name)
            return [INDEX, LISTS, KEYS]

        save_base(folder, _PREFIX, {**self._form(), "revision": self.revision}, write)
        lists.remove_names()

    def _next_base(
        self, base: Base, masked: Mask, keys: Sequence[bytes], vectors: Vectors, stop: Stop
    ) -> Base:
        kept = [base.table[label] for label in np.flatnonzero(~masked)]
        if not kept and not keys:
            return InvertedLists(None, KeyTable(b""), None, self.parameters, self._exact)
        count, folder = len(kept) + len(keys), self._new_folder()

        def blocks() -> Iterator[Block]:
            yield from in_blocks(kept, self._exact)
            if keys:
                yield keys, vectors

        try:
            sample = _sample(kept, self._exact, vectors, sample_size(count, self.parameters))
            build_lists(folder, sample, count, blocks(), self.parameters, stop)
            lists = open_lists(folder, self.dimensions, self.parameters, self._exact)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        lists.remove_when_unused()
        return lists

    def _new_folder(self) -> Path:
        """Beside the saved lists, so that they can have a second name; swept at the next start."""
        if self.folder is None:
            return Path(mkdtemp(prefix="memory3-lists-"))
        folder = self.folder / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
        folder.mkdir(mode=0o700, parents=True)
        return folder

    def _form(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "metric": METRIC,
            "dimensions": self.dimensions,
            "bits": self.parameters.bits,
            "lists": self.parameters.lists,
            "owner": self.owner,
        }


def _sample(kept: Sequence[bytes], exact: VectorsOf, new: Vectors, size: int) -> Vectors:
    """So many unit vectors, of the kept and of the new ones alike."""
    rng = np.random.default_rng(_SEED)
    rows = rng.permutation(len(kept) + len(new))[:size]
    old = exact([kept[row] for row in rows if row < len(kept)])
    parts = [new[[row - len(kept) for row in rows if row >= len(kept)]]]
    if old:
        parts.append(unit_rows(np.stack(list(old.values()))))
    return np.ascontiguousarray(np.concatenate(parts), dtype=np.float32)

"""Inverted lists of scalar-quantised vectors in mapped files: faiss's, with guards around it.

A query is compared with the centres of the lists and with what is in the nearest lists; the best
candidates are then ranked by their exact vectors, which are read from where the truth is. In memory
are the centres and the keys; the lists stay on the disk and in the system's page cache.
"""

from __future__ import annotations

import math
import shutil
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from faiss.contrib.ondisk import merge_ondisk

from memory3_retriever.indexes.base import SCORE_DECIMALS, Hit, Vectors, VectorsOf, unit_rows
from memory3_retriever.indexes.keys import KeyTable
from memory3_retriever.indexes.layered import BrokenOffError, Mask, Stop
from memory3_retriever.indexes.parameters import parse_numbers

INDEX, LISTS, KEYS = "lists.index", "lists.bin", "keys.bin"
METRIC = "ip"  # of unit vectors: the cosine
# What Python adds to faiss's classes is not in its types.
_untyped: Any = faiss
# Vectors that are held in memory at once while lists are built.
_BLOCK = 1 << 16
# Vectors that each centre is trained on, and the least that a list shall hold.
_TRAINED_PER_LIST, _LEAST_PER_LIST = 40, 32
_READ = faiss.IO_FLAG_ONDISK_SAME_DIR | faiss.IO_FLAG_READ_ONLY
_TYPES = {8: faiss.ScalarQuantizer.QT_8bit, 4: faiss.ScalarQuantizer.QT_4bit}
_RANGES = {
    "bits": (4, 8),
    "lists": (1, 1 << 20),
    "probes": (1, 1 << 16),
    "candidates": (16, 10_000),
    "delta": (16, 1_000_000),
    "threads": (1, 256),
}

# A block of keys and their unit vectors.
Block = tuple[Sequence[bytes], Vectors]


@dataclass(frozen=True, slots=True)
class ListParameters:
    """How lists are built and searched.

    Attributes:
        bits: Of a component, 8 or 4 (values between are taken as 4).
        lists: Lists; 0 makes them four times the square root of the number of vectors.
        probes: Lists that a query looks into.
        candidates: What is ranked by exact vectors, at least.
        delta: Vectors that wait, searched exactly, before lists are built of them.
        threads: Threads that build.
    """

    bits: int = 8
    lists: int = 0
    probes: int = 32
    candidates: int = 64
    delta: int = 10_000
    threads: int = 1

    @classmethod
    def parse(cls, argument: str | None) -> ListParameters:
        """Read ``bits=8,probes=32``.

        Raises:
            InvalidArgumentError: A name is not known or a value is out of its range.
        """
        values = parse_numbers("ivf", argument, _RANGES)
        if "bits" in values:
            values["bits"] = 8 if values["bits"] == 8 else 4
        return cls(**values)


@dataclass(eq=False)
class InvertedLists:
    """Lists in the files of a folder, and the key of each label.

    Attributes:
        folder: Where the files are; None for lists without vectors.
        table: The key of each label.
        native: faiss's index over the mapped files.
        parameters: How they are searched; whoever raises ``probes`` replaces it.
        vectors_of: Reads exact vectors.
    """

    folder: Path | None
    table: KeyTable
    native: Any
    parameters: ListParameters
    vectors_of: VectorsOf
    _selector: tuple[Mask, Any, Any] | None = field(default=None, init=False)
    _remover: Callable[[], object] | None = field(default=None, init=False)

    @property
    def memory_bytes(self) -> int:
        """Centres and keys; the lists are mapped."""
        centres = 4 * self.native.d * self.native.nlist if self.native is not None else 0
        return int(centres) + self.table.nbytes + len(self.table) // 8

    @property
    def num_lists(self) -> int:
        """How many lists there are."""
        return int(self.native.nlist) if self.native is not None else 0

    def remove_when_unused(self) -> None:
        """Remove the folder when nobody searches these lists any more."""
        self._remover = weakref.finalize(self, shutil.rmtree, str(self.folder), ignore_errors=True)

    def remove_names(self) -> None:
        """Remove the folder now; the files stay as long as they are mapped or have other names."""
        if self._remover is not None:
            self._remover()

    def search(self, queries: Vectors, k: int, masked: Mask) -> list[list[Hit]]:
        """The hits of unit queries among the labels that are not masked."""
        num_live = int(len(masked) - np.count_nonzero(masked))
        if self.native is None or not num_live:
            return [[] for _ in queries]
        wanted = min(max(self.parameters.candidates, 4 * k), num_live)
        labels = self._candidates(queries, wanted, self.parameters.probes, masked)
        if (np.count_nonzero(labels >= 0, axis=1) < min(k, num_live)).any():
            labels = self._candidates(queries, wanted, self.num_lists, masked)
        return self._ranked(queries, labels, k)

    def _candidates(self, queries: Vectors, wanted: int, probes: int, masked: Mask) -> Any:
        # The number of threads is each thread's own in OpenMP.
        faiss.omp_set_num_threads(1)
        search = _untyped.SearchParametersIVF(nprobe=probes, sel=self._allowed(masked))
        return self.native.search(queries, wanted, params=search)[1]

    def _allowed(self, masked: Mask) -> Any:
        """The selector of labels that are not masked; masks are replaced, never changed."""
        known = self._selector
        if known is None or known[0] is not masked:
            bits = np.packbits(~masked, bitorder="little")
            known = (masked, bits, _untyped.IDSelectorBitmap(bits))
            self._selector = known
        return known[2]

    def _ranked(self, queries: Vectors, labels: Any, k: int) -> list[list[Hit]]:
        """The best k of each query's candidates by their exact cosines, equal ones by key."""
        rows = [[self.table[label] for label in row[row >= 0]] for row in labels]
        exact = self.vectors_of(list(dict.fromkeys(key for row in rows for key in row)))
        hits: list[list[Hit]] = []
        for query, row in zip(queries, rows, strict=True):
            # One that is gone from where the truth is, is no hit any more.
            keys = [key for key in row if key in exact]
            if not keys:
                hits.append([])
                continue
            scores = unit_rows(np.stack([exact[key] for key in keys])) @ query
            scores = np.round(scores, SCORE_DECIMALS).tolist()
            best = sorted(zip(scores, keys, strict=True), key=lambda pair: (-pair[0], pair[1]))
            hits.append([Hit(key, score) for score, key in best[:k]])
        return hits


def open_lists(
    folder: Path, dimensions: int, parameters: ListParameters, vectors_of: VectorsOf
) -> InvertedLists:
    """The lists in a folder whose files are known to be whole.

    Raises:
        ValueError: The files do not belong together.
    """
    table = KeyTable((folder / KEYS).read_bytes())
    native = faiss.read_index(str(folder / INDEX), _READ)
    expected = (dimensions, len(table), faiss.METRIC_INNER_PRODUCT)
    if (native.d, native.ntotal, native.metric_type) != expected:
        raise ValueError("the lists have another form or number of vectors than the keys")
    return InvertedLists(folder, table, native, parameters, vectors_of)


def build_lists(
    folder: Path,
    sample: Vectors,
    count: int,
    blocks: Iterator[Block],
    parameters: ListParameters,
    stop: Stop,
) -> None:
    """Write lists into a folder, one block of vectors in memory at a time.

    Args:
        folder: An empty folder.
        sample: Unit vectors to train on; see ``sample_size``.
        count: About how many vectors there are.
        blocks: All keys and their unit vectors.
        parameters: How to build.
        stop: Asked between blocks whether to break off.

    Raises:
        BrokenOffError: ``stop`` said so.
        OSError: The disk failed.
    """
    faiss.omp_set_num_threads(parameters.threads)
    native = _trained(sample, count, parameters)
    empty, packed, names = faiss.serialize_index(native), [], []
    first = 0
    for number, (keys, vectors) in enumerate(blocks):
        if stop():
            raise BrokenOffError
        part = faiss.deserialize_index(empty)
        part.add_with_ids(vectors, np.arange(first, first + len(keys)))
        names.append(str(folder / f"part-{number}"))
        _written(part, Path(names[-1]))
        packed.append(b"".join(keys))
        first += len(keys)
    try:
        merge_ondisk(native, names, str(folder / LISTS))
    except RuntimeError as error:
        raise OSError(f"lists could not be merged: {error}") from error
    _written(native, folder / INDEX)
    for name in names:
        Path(name).unlink()
    (folder / KEYS).write_bytes(b"".join(packed))


def num_lists(count: int, parameters: ListParameters) -> int:
    """How many lists so many vectors are spread over."""
    wanted = parameters.lists or int(4 * math.sqrt(count))
    return max(1, min(wanted, count // _LEAST_PER_LIST))


def sample_size(count: int, parameters: ListParameters) -> int:
    """How many of so many vectors are enough to train on."""
    return min(count, max(1000, _TRAINED_PER_LIST * num_lists(count, parameters)))


def in_blocks(keys: Sequence[bytes], vectors_of: VectorsOf) -> Iterator[Block]:
    """The keys that exist and their unit vectors, a block at a time."""
    for start in range(0, len(keys), _BLOCK):
        found = vectors_of(keys[start : start + _BLOCK])
        if found:
            yield list(found), unit_rows(np.stack(list(found.values())))


def _trained(sample: Vectors, count: int, parameters: ListParameters) -> Any:
    dimensions = sample.shape[1]
    centres = faiss.IndexFlatIP(dimensions)
    lists = min(num_lists(count, parameters), len(sample))
    native = faiss.IndexIVFScalarQuantizer(
        centres, dimensions, lists, _TYPES[parameters.bits], faiss.METRIC_INNER_PRODUCT
    )
    native.cp.spherical, native.cp.min_points_per_centroid = True, 1
    native.train(sample)
    return native


def _written(native: Any, path: Path) -> None:
    try:
        faiss.write_index(native, str(path))
    except RuntimeError as error:
        raise OSError(f"{path.name} could not be written: {error}") from error

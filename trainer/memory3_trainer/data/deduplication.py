"""Near-duplicates of a stream of documents, by MinHash over runs of five words.

Of documents that share more of their runs than a threshold (Jaccard), the first is kept. Candidates
come from locality-sensitive hashing, and the estimate from all permutations decides. Source:
Broder 1997, "On the resemblance and containment of documents".
Memory: about 4.5 KB for each document kept (128 permutations), whatever its length; the texts
themselves go through.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from datasketch import MinHash, MinHashLSH

from memory3.data.documents import Document
from memory3.embedders.words import split_words
from memory3.errors import AlreadyExistsError, InvalidArgumentError

_DOCUMENTS, _REPORT = "documents.jsonl.zst", "report.json"
_RUN = 5  # words of a shingle
_MAX_EXAMPLES = 20
_RUNS_AT_A_TIME = 8192  # bounds the memory of one very long document


@dataclass
class DeduplicationReport:
    """What was kept.

    Attributes:
        examples: The first dropped documents: own id and that of the document kept before it, with
            the estimated similarity.
    """

    threshold: float
    num_permutations: int
    num_read: int = 0
    num_kept: int = 0
    num_bytes_read: int = 0
    num_bytes_kept: int = 0
    examples: list[tuple[str, str, float]] = field(default_factory=list)

    @property
    def num_dropped(self) -> int:
        """Documents left out."""
        return self.num_read - self.num_kept


class Deduplicator:
    """Remembers the documents that it has seen.

    Args:
        threshold: Similarity from which on two documents are the same, 0 to 1.
        num_permutations: Hashes of a document; more are surer and slower.
    """

    def __init__(self, *, threshold: float = 0.8, num_permutations: int = 128) -> None:
        if not 0.1 <= threshold <= 1.0 or not 16 <= num_permutations <= 1024:
            raise InvalidArgumentError(
                "threshold must be 0.1 to 1, permutations 16 to 1024",
                field="threshold, num-perm",
            )
        self._threshold, self._num = threshold, num_permutations
        self._empty = MinHash(num_permutations)
        self._buckets = MinHashLSH(min(threshold, 0.99), num_permutations)
        self._ids: list[str] = []
        self._hashes = np.empty((1024, num_permutations), dtype=np.uint32)

    def seen(self, document: Document) -> tuple[str, float] | None:
        """The id and similarity of an earlier document like this one; None remembers this one."""
        hashed = self._hash(document.text)
        values = np.asarray(hashed.hashvalues, dtype=np.uint32)
        candidates = sorted(self._buckets.query(hashed))
        if candidates:
            alike = (self._hashes[candidates] == values).mean(axis=1)
            best = int(alike.argmax())
            if alike[best] >= self._threshold:
                return self._ids[candidates[best]], float(alike[best])
        number = len(self._ids)
        if number == len(self._hashes):
            self._hashes = np.concatenate((self._hashes, np.empty_like(self._hashes)))
        self._hashes[number] = values
        self._ids.append(document.id)
        self._buckets.insert(number, hashed, check_duplication=False)
        return None

    def _hash(self, text: str) -> MinHash:
        words = split_words(text)
        hashed = self._empty.copy()
        runs = [
            " ".join(words[at : at + _RUN]).encode("utf-8", "surrogatepass")
            for at in range(max(1, len(words) - _RUN + 1))
        ]
        for start in range(0, len(runs), _RUNS_AT_A_TIME):
            hashed.update_batch(runs[start : start + _RUNS_AT_A_TIME])
        return hashed


def deduplicate(
    documents: Iterable[Document],
    out: Path,
    *,
    threshold: float = 0.8,
    num_permutations: int = 128,
    progress: Callable[[DeduplicationReport], None] = lambda report: None,
) -> DeduplicationReport:
    """Write the documents that are not like an earlier one, with a report.

    Args:
        documents: What to look through.
        out: Folder to make: ``documents.jsonl.zst`` and ``report.json``.
        threshold: As `Deduplicator`.
        num_permutations: As `Deduplicator`.
        progress: Told the report so far after every document.

    Raises:
        AlreadyExistsError: The place is taken.
        InvalidArgumentError: A number is out of range, or there is no document.
    """
    import zstandard

    if out.exists():
        raise AlreadyExistsError(
            f"{out.name} is there already", field="out", remedy="give another place, or remove it"
        )
    report = DeduplicationReport(threshold, num_permutations)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        staged = Path(temporary) / out.name
        staged.mkdir()
        with zstandard.open(staged / _DOCUMENTS, "wb") as raw, io.BufferedWriter(raw) as file:
            for document in _first_ones(documents, report, progress):
                line = json.dumps(asdict(document), ensure_ascii=False) + "\n"
                file.write(line.encode("utf-8", "surrogatepass"))
        if not report.num_read:
            raise InvalidArgumentError(
                "there is no document", field="texts", remedy="give files that hold text"
            )
        values = {**asdict(report), "num_dropped": report.num_dropped}
        (staged / _REPORT).write_text(json.dumps(values, indent=2), encoding="utf-8")
        staged.rename(out)
    return report


def _first_ones(
    documents: Iterable[Document],
    report: DeduplicationReport,
    progress: Callable[[DeduplicationReport], None],
) -> Iterator[Document]:
    known = Deduplicator(threshold=report.threshold, num_permutations=report.num_permutations)
    for document in documents:
        size = len(document.text.encode("utf-8", "surrogatepass"))
        report.num_read += 1
        report.num_bytes_read += size
        earlier = known.seen(document)
        if earlier is None:
            report.num_kept += 1
            report.num_bytes_kept += size
            yield document
        elif len(report.examples) < _MAX_EXAMPLES:
            report.examples.append((document.id, *earlier))
        progress(report)

"""The references that a question is asked over: passages and distractors, cut and searched.

Cut by the splitter of the retriever, embedded with title and heading as it does, found by an index
plugin. It must not know models or conditions.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from memory3.data.documents import Document, iter_documents
from memory3.data.finder import Finder
from memory3.data.progress import Progress, silent
from memory3.documents.splitter import Splitter
from memory3.embedders.base import Embedder, search_text

_QUERIES_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class BankReference:
    """A reference; its tokens are made when it is written, as most are never read.

    Attributes:
        passage: Id of its passage; empty for a distractor.
    """

    text: str
    title: str
    heading: str
    passage: str


class Bank:
    """References by number.

    Args:
        splitter: Cuts texts.

    Attributes:
        references: All of them, in the order they were added.
        by_passage: Numbers of the references of each passage, in its order.
    """

    def __init__(self, splitter: Splitter) -> None:
        self._splitter = splitter
        self.references: list[BankReference] = []
        self.by_passage: dict[str, tuple[int, ...]] = {}

    def add_passage(self, passage: str, title: str, text: str) -> None:
        """Cut a passage; one without text has no references."""
        start = len(self.references)
        self.references += self._cut(title, text, passage)
        self.by_passage[passage] = tuple(range(start, len(self.references)))

    def add_distractors(self, documents: Iterable[Document], limit: int | None = None) -> int:
        """Cut documents until there are enough references.

        Args:
            documents: In the order they are taken.
            limit: At most so many references; None takes all.

        Returns:
            How many references were added.
        """
        added = 0
        for document in documents:
            if limit is not None and added >= limit:
                break
            cut = self._cut(document.title, document.text, "")
            cut = cut if limit is None else cut[: limit - added]
            self.references += cut
            added += len(cut)
        return added

    def search(
        self,
        queries: Sequence[str],
        k: int,
        embedder: Embedder,
        *,
        index: str = "exact",
        progress: Progress = silent,
    ) -> list[list[int]]:
        """The numbers of the k references nearest to each query, best first.

        Fewer where the bank has fewer; none for a query without any word the embedder knows.
        """
        return BankSearch(self, embedder, index, progress)(queries, k)

    def search_text(self, number: int) -> str:
        """What a reference is found by."""
        reference = self.references[number]
        return search_text(reference.title, reference.heading, reference.text)

    def _cut(self, title: str, text: str, passage: str) -> list[BankReference]:
        return [
            BankReference(piece.text, title, piece.heading, passage)
            for piece in self._splitter.split(text)
        ]


class BankSearch:
    """Finds references of a bank that stays as it is; embeds it once.

    Args:
        bank: References.
        embedder: Embeds them and the queries.
        index: Name of the index with argument.
        progress: Told how far it is.
    """

    def __init__(
        self, bank: Bank, embedder: Embedder, index: str, progress: Progress = silent
    ) -> None:
        self._progress = progress
        self._finder: Finder | None = None
        total = len(bank.references)
        if total:
            self._finder = Finder(embedder, index)
            self._finder.fill(bank.search_text, total, lambda n: progress("embedded", n, total))

    def __call__(self, queries: Sequence[str], k: int) -> list[list[int]]:
        """As `Bank.search`."""
        if self._finder is None:
            return [[] for _ in queries]
        found: list[list[int]] = []
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            found += self._finder.find(queries[start : start + _QUERIES_AT_ONCE], k)
            self._progress("searched", len(found), len(queries))
        return found


def draw_documents(
    paths: Sequence[Path],
    count: int | None,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Document]:
    """Documents in an order that the seed draws, whatever the order of the files.

    Whole documents are drawn, so that a bank holds the neighbours of a reference as a real one
    does.

    Args:
        paths: Files as `records` reads them.
        count: At most so many documents, so that memory is bounded; None takes all, in file order.
        seed: Of the draw.
        progress: Told how many documents were seen.

    Raises:
        InvalidArgumentError: A file is missing, empty or broken; file and line are named.
    """
    if count is None:
        return list(iter_documents(paths))
    drawn: list[tuple[int, int, Document]] = []  # the lowest draws; the highest of them first
    for number, document in enumerate(iter_documents(paths)):
        item = (-_draw(document, seed), number, document)
        if len(drawn) < count:
            heapq.heappush(drawn, item)
        else:
            heapq.heappushpop(drawn, item)
        progress(number + 1)
    return [document for _, _, document in sorted(drawn, key=lambda item: (-item[0], item[1]))]


def _draw(document: Document, seed: int) -> int:
    whole = f"{seed}:{document.key}".encode()
    return int.from_bytes(hashlib.blake2b(whole, digest_size=8).digest(), "big")
